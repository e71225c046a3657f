"""The history of an owner on real SQLite and PostgreSQL: its limit, its pages, its sizes."""

import asyncio
from dataclasses import replace

import pytest

from service.database.connection import to_json
from service.database.database import Database
from service.database.errors import InvalidCursor
from service.database.registries.cursor import make_cursor
from service.database.registries.execution_registry import ExecutionRegistry
from service.database.registries.history import ROW_BYTES, HistoryQuota
from service.database.registries.session_registry import SessionRegistry
from sessions.models import JsonObject
from sessions.records import ONE_TENANT, CellPage, CellRecord, SessionRecord
from tests.support.records import all_cells, cell, cells_of, execution, session

LIMIT = 100_000


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


@pytest.fixture
def sessions(database: Database) -> SessionRegistry:
    """The rows of sessions, with a limit on each owner's history."""
    return SessionRegistry(database, HistoryQuota(LIMIT))


async def opened(sessions: SessionRegistry, owner: str = "alice") -> SessionRecord:
    """Add a session of an owner."""
    record = session(owner=owner)
    await sessions.add_session(record)
    return record


async def run(
    sessions: SessionRegistry,
    record: SessionRecord,
    number: int,
    size: int,
    *,
    code: str = "1",
    first: bool = False,
) -> CellRecord:
    """Write a cell with a result of `size` bytes, and return it as it was. `first`: its row exists before."""
    result: JsonObject = {"execution_count": number, "stdout": ""}
    result["stdout"] = "x" * (size - len(to_json(result)))
    begun = cell(record, number, code=code, started_at=float(number))
    if first:
        await sessions.add_cell(begun)
    done = replace(begun, state="done", finished_at=number + 0.5, result=result)
    await sessions.keep_result(done, execution(1.0, owner=record.owner), is_new=not first)
    return done


def bytes_of(*cells: CellRecord) -> int:
    """Return the bytes that count of cells, as the limit counts them."""
    sizes = [len(one.code.encode()) + (len(to_json(one.result)) if one.result else 0) for one in cells]
    return sum(sizes) + ROW_BYTES * len(cells)


@pytest.mark.parametrize("first", [False, True])
async def test_oldest_results_make_room_for_new_ones(sessions: SessionRegistry, first: bool) -> None:
    """The rows of the oldest cells lose their results and say so. The newest ones are whole."""
    record = await opened(sessions)
    written = [await run(sessions, record, number, 10_000, first=first) for number in range(1, 41)]
    found = await all_cells(sessions, record)
    assert [one.number for one in found] == list(range(1, 41))
    assert bytes_of(*found) <= LIMIT
    kept = [one for one in found if one.removed is None]
    assert kept == written[-len(kept) :], "the newest results are kept as they were"
    assert len(kept) >= LIMIT * 7 // 8 // 10_600 - 2
    for lost, was in zip(found[: -len(kept)], written, strict=False):
        assert lost == replace(was, result=None, removed="result")


async def test_result_that_is_larger_than_the_limit_is_not_kept(sessions: SessionRegistry) -> None:
    """Its row says so. Older results stay."""
    record = await opened(sessions)
    small = await run(sessions, record, 1, 5000)
    for number, first in ((2, False), (3, True)):
        large = await run(sessions, record, number, LIMIT + 1, first=first)
        found = await sessions.get_cell(record.session_id, large.cell_id)
        assert found == replace(large, result=None, removed="result")
    assert (await all_cells(sessions, record))[0] == small


async def test_code_and_rows_count_too(sessions: SessionRegistry) -> None:
    """Without results to remove, the oldest code goes, and at last the oldest rows."""
    record = await opened(sessions)
    for number in range(1, 31):
        await run(sessions, record, number, 100, code="#" * 10_000)
    found = await all_cells(sessions, record)
    assert bytes_of(*found) <= LIMIT
    assert [one.number for one in found] == list(range(1, 31))
    assert (found[0].code, found[0].result, found[0].removed) == ("", None, "code")
    assert (len(found[-1].code), found[-1].removed) == (10_000, None)
    for number in range(31, 31 + 2 * LIMIT // ROW_BYTES):
        await run(sessions, record, number, 50, code="")
    found = await all_cells(sessions, record)
    assert bytes_of(*found) <= LIMIT
    assert found[-1].number == 30 + 2 * LIMIT // ROW_BYTES
    assert found[0].number > 30, "the oldest rows are gone"
    assert (await sessions.summary(record.session_id)).last_number == found[-1].number


async def test_history_of_another_owner_is_left_alone(sessions: SessionRegistry) -> None:
    """Each owner has a limit of its own, over all of its sessions, also ended ones."""
    bob = await opened(sessions, "bob")
    his = await run(sessions, bob, 1, 50_000)
    old, new = await opened(sessions), await opened(sessions)
    for number in range(1, 11):
        await run(sessions, old, number, 10_000)
    await sessions.end_session(old.session_id, "deleted", 5.0)
    for number in range(11, 21):
        await run(sessions, new, number, 10_000)
    assert await all_cells(sessions, bob) == [his]
    assert bytes_of(*await all_cells(sessions, old), *await all_cells(sessions, new)) <= LIMIT
    assert {one.removed for one in await all_cells(sessions, old)} == {"result"}


async def test_running_cell_is_not_shortened(sessions: SessionRegistry) -> None:
    """A running cell, even an old one, keeps its code: its result is still to come."""
    record = await opened(sessions)
    running = cell(record, 1, code="#" * 50_000, started_at=0.0)
    await sessions.add_cell(running)
    for number in range(2, 20):
        await run(sessions, record, number, 10_000, code="#" * 5000)
    assert await sessions.running_cells(record.session_id) == [running]
    assert bytes_of(*await all_cells(sessions, record)) <= LIMIT


async def test_limit_holds_for_writers_at_the_same_time(url: str, database: Database) -> None:
    """Four replicas with connections of their own write for one owner, and stay within its limit."""
    record = await opened(SessionRegistry(database))
    databases = [Database(url) for _ in range(4)]
    replicas = [SessionRegistry(one, HistoryQuota(LIMIT, is_shared=True)) for one in databases]

    async def write(at: int) -> None:
        for number in range(25):
            await run(replicas[at], record, 1 + at * 25 + number, 3000)
            assert bytes_of(*await all_cells(replicas[at], record)) <= LIMIT

    await asyncio.gather(*(write(at) for at in range(4)))
    found = await all_cells(replicas[0], record)
    assert len(found) == 100
    assert any(one.removed for one in found) and not found[-1].removed
    for one in databases:
        await one.close()


async def test_limit_holds_if_one_replica_wrote_little_before_another_wrote_much(
    url: str, database: Database
) -> None:
    """A replica may add something before it counts again; that was allowed when the history was short."""
    record = await opened(SessionRegistry(database))
    databases = [Database(url) for _ in range(4)]
    replicas = [SessionRegistry(one, HistoryQuota(LIMIT, is_shared=True)) for one in databases]
    order = (*replicas, *[replicas[0]] * 50, *replicas[1:] * 2)
    for number, sessions in enumerate(order, 1):
        await run(sessions, record, number, 2000)
        assert bytes_of(*await all_cells(sessions, record)) <= LIMIT
    for one in databases:
        await one.close()


async def test_service_that_starts_again_counts_what_is_there(url: str, database: Database) -> None:
    """The first result after the start is counted together with everything before."""
    record = await opened(SessionRegistry(database))
    for number in range(1, 10):
        await run(SessionRegistry(database, HistoryQuota(LIMIT)), record, number, 10_000)
    again = SessionRegistry(database, HistoryQuota(LIMIT))
    await run(again, record, 10, 20_000)
    assert bytes_of(*await all_cells(again, record)) <= LIMIT


async def test_without_a_limit_everything_is_kept(database: Database) -> None:
    """0 means no limit."""
    sessions = SessionRegistry(database, HistoryQuota(0))
    record = await opened(sessions)
    written = [await run(sessions, record, number, 50_000) for number in range(1, 6)]
    assert await all_cells(sessions, record) == written


async def test_pages_are_bounded_by_number_and_by_bytes(database: Database) -> None:
    """A page has at most 4 MiB, or one cell. The pages together are the whole history, in order."""
    sessions = SessionRegistry(database)
    record = await opened(sessions)
    sizes = [100, 3 << 20, 3 << 20, 9 << 20, *([1 << 20] * 5), *([100] * 6)]
    written = [await run(sessions, record, number, size) for number, size in enumerate(sizes, 1)]
    pages: list[CellPage] = []
    after = None
    while not pages or after is not None:
        pages.append(await sessions.cells(record.session_id, 5, after))
        after = pages[-1].next
    assert [one for page in pages for one in await cells_of(sessions, page)] == written
    assert [len(page.cells) for page in pages] == [2, 1, 1, 3, 5, 3]


async def test_pages_of_executions_are_bounded_by_the_code_that_is_kept(database: Database) -> None:
    """An execution without its code counts nothing, whatever the code had."""
    registry = ExecutionRegistry(database)
    for number in range(6):
        code = "#" * (3 << 20)
        await registry.add(execution(float(number), code=code, code_bytes=len(code)))
        await registry.add(execution(number + 0.5, code=None, code_bytes=len(code)))
    found, after = 0, None
    while True:
        page, more = await registry.page(ONE_TENANT, 5, after)
        assert sum(len(one.code or "") for one in page) <= 4 << 20
        found += len(page)
        if not more:
            break
        after = make_cursor(page[-1].created_at, page[-1].execution_id)
    assert found == 12
    assert len((await registry.page(ONE_TENANT, 2))[0]) == 2


@pytest.mark.parametrize("by", ["one-shot calls", "commands", "cells"])
async def test_kept_code_of_executions_counts(database: Database, by: str) -> None:
    """The oldest code is removed, and nothing else of its execution. Other owners lose nothing."""
    quota = HistoryQuota(LIMIT)
    executions, sessions = ExecutionRegistry(database, quota), SessionRegistry(database, quota)
    record = await opened(sessions)
    other = execution(0.5, owner="bob", code="b" * 50_000, code_bytes=50_000)
    await executions.add(other)
    for number in range(1, 41):
        ran = execution(float(number), owner="alice", code="x" * 10_000, code_bytes=10_000)
        if by == "one-shot calls":
            await executions.add(ran)
        elif by == "commands":
            await sessions.add_command(record.session_id, ran)
        else:
            await sessions.keep_result(cell(record, number, state="done", result={}), ran, is_new=True)
        found, _ = await executions.page("alice", 100)
        assert len(found) == number
        assert sum(len(one.code or "") for one in found) <= LIMIT
    codes = [one.code is not None for one in found]
    assert codes == sorted(codes, reverse=True), "the newest are kept"
    assert 5 <= sum(codes) <= 10
    assert found[-1] == replace(found[0], **{name: getattr(found[-1], name) for name in _OWN}, code=None)
    assert (await executions.page("bob", 10))[0] == [other]


_OWN = ("execution_id", "created_at", "finished_at")


async def test_kept_code_makes_room_for_results(database: Database) -> None:
    """The code that is kept of executions goes before the results of cells, which are shown in notebooks."""
    quota = HistoryQuota(LIMIT)
    executions, sessions = ExecutionRegistry(database, quota), SessionRegistry(database, quota)
    record = await opened(sessions)
    first = await run(sessions, record, 1, 30_000)
    for number in range(6):
        ran = execution(float(number), owner="alice", code="x" * 10_000, code_bytes=10_000)
        await executions.add(ran)
    last = await run(sessions, record, 2, 40_000)
    assert await all_cells(sessions, record) == [first, last]
    left = [one for one in (await executions.page("alice", 10))[0] if one.code is not None]
    assert len(left) <= 2


async def test_code_over_the_limit_is_not_kept(database: Database) -> None:
    """It removes nothing of what is there."""
    executions = ExecutionRegistry(database, HistoryQuota(LIMIT))
    small = execution(1.0, code="1", code_bytes=1)
    await executions.add(small)
    large = execution(2.0, code="x" * (LIMIT + 1), code_bytes=LIMIT + 1)
    await executions.add(large)
    assert (await executions.page(ONE_TENANT, 10))[0] == [replace(large, code=None), small]


async def test_page_after_an_invalid_cursor_is_refused(sessions: SessionRegistry) -> None:
    """A session without cells has one empty page."""
    record = await opened(sessions)
    assert await sessions.cells(record.session_id, 5) == CellPage((), None)
    with pytest.raises(InvalidCursor):
        await sessions.cells(record.session_id, 5, "nonsense")


async def test_summary_has_the_last_number_count_and_time(sessions: SessionRegistry) -> None:
    """The execution count is that of the last cell that has one."""
    record = await opened(sessions)
    empty = await sessions.summary(record.session_id)
    assert (empty.last_number, empty.execution_count, empty.last_finished_at) == (0, 0, None)
    for number in (1, 2, 3):
        await run(sessions, record, number, 100)
    await sessions.add_cell(cell(record, 4, state="done", finished_at=9.0, result={"execution_count": None}))
    await sessions.add_cell(cell(record, 5))
    summary = await sessions.summary(record.session_id)
    assert (summary.last_number, summary.execution_count, summary.last_finished_at) == (5, 3, 9.0)
