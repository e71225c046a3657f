"""The history of sessions as callers read it: pages, a streamed notebook, and what the limit removes."""

import json
import threading
from collections.abc import Callable, Iterator

import nbformat
import pytest

from code_interpreter_client import Client
from tests.conftest import GENEROUS, serving
from tests.hostile.conftest import MemoryWatch
from tests.support.api import problem
from tests.support.process import Service
from tests.support.session import Session, check_cell, new_session

MEGABYTE = 1024 * 1024
LARGE = "display({'text/plain': 'é' * (4 << 20)}, raw=True)\nprint('x' * 500_000)"
"""Code with a display of eight megabytes, which are 24 as JSON in ASCII."""


@pytest.fixture(scope="module")
def small(open_service: Callable[..., Service]) -> Iterator[Service]:
    """A service that keeps three megabytes of history for each key."""
    yield from serving(open_service, **GENEROUS, KEY_HISTORY_MB=3)


def pages_of(session: Session, **parameters: int) -> list[list[int]]:
    """Return the numbers of the cells of each page."""
    pages: list[list[int]] = []
    after: dict[str, str] = {}
    while True:
        body = session.call("GET", "/cells", params={**parameters, **after}).json()
        for cell in body["cells"]:
            check_cell(cell)
        pages.append([cell["number"] for cell in body["cells"]])
        if body["next"] is None:
            return pages
        after = {"after": body["next"]}


def test_cells_are_listed_in_pages(service: Service) -> None:
    """`limit` and `after` work as in other lists, and the client reads all pages."""
    with new_session(service) as session:
        for number in range(1, 6):
            session.run(str(number))
        assert pages_of(session) == [[1, 2, 3, 4, 5]]
        assert pages_of(session, limit=2) == [[1, 2], [3, 4], [5]]
        assert pages_of(session, limit=5) == [[1, 2, 3, 4, 5]]
        for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"after": "nonsense"}):
            assert problem(session.call("GET", "/cells", params=wrong))["code"] in (
                "invalid_request",
                "invalid_cursor",
            )
        with Client(service.base_url) as client:
            attached = client.attach(session.id)
            assert [cell.number for cell in attached.cells()] == [1, 2, 3, 4, 5]
            page = attached.cells_page(limit=3)
            assert [cell.number for cell in page.cells] == [1, 2, 3]
            assert [cell.number for cell in attached.cells_page(limit=3, after=page.next).cells] == [4, 5]


def test_reading_a_long_history_takes_little_memory(service: Service) -> None:
    """Texts come from the registry in pieces. `/health` answers meanwhile."""
    with new_session(service) as session:
        for _ in range(12):
            assert session.run(LARGE, timeout_ms=30_000)["error"] is None
        with MemoryWatch(service) as watch:
            readers = [
                threading.Thread(target=session.call, args=("GET", path))
                for path in ("/cells", "/notebook") * 2
            ]
            for reader in readers:
                reader.start()
            while any(reader.is_alive() for reader in readers):
                assert service.api.http.get("/health").status_code == 200
            for reader in readers:
                reader.join()
            pages = pages_of(session)
        assert watch.growth_kb < 50 * 1024, f"grew by {watch.growth_kb // 1024} MiB"
        assert [number for page in pages for number in page] == list(range(1, 13))
        assert {len(page) for page in pages} == {1}
        response = session.call("GET", "/notebook")
        document = nbformat.reads(response.text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(document)
        assert len(response.content) > 100 * MEGABYTE
        assert [len(cell.outputs) for cell in document.cells] == [2] * 12


def test_notebook_of_a_session_without_cells_is_valid(service: Service) -> None:
    """The list of cells is empty."""
    with new_session(service) as session:
        document = nbformat.reads(session.call("GET", "/notebook").text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(document)
        assert document.cells == []


def test_history_over_its_limit_says_what_was_removed(small: Service) -> None:
    """The answers are complete. The oldest cells lose their results, here and in the notebook."""
    with new_session(small) as session:
        for number in range(8):
            result = session.run(f"print('x' * 900_000)  # {number}")
            assert len(result["stdout"]) == 900_001
        cells = session.cells()
        assert [cell["number"] for cell in cells] == list(range(1, 9))
        kept = [cell for cell in cells if cell["removed"] is None]
        assert 2 <= len(kept) <= 3
        assert all(len(cell["result"]["stdout"]) == 900_001 for cell in kept)
        for cell in cells[: -len(kept)]:
            assert (cell["removed"], cell["result"], cell["state"]) == ("result", None, "done")
            assert "900_000" in cell["code"]
            facts = small.api.http.get(f"/v1/executions/{cell['cell_id']}").json()
            assert (facts["outcome"], facts["sizes"]["stdout_bytes"]) == ("ok", 900_001)
        notebook = nbformat.reads(session.call("GET", "/notebook").text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        assert "KEY_HISTORY_MB" in notebook.cells[0].outputs[0].text
        assert notebook.cells[-1].outputs[0].text == "x" * 900_000 + "\n"


def test_result_larger_than_the_whole_limit_is_answered_but_not_kept(small: Service) -> None:
    """Its cell says so."""
    with new_session(small) as session:
        session.run("1")
        result = session.run("print('\\1' * 1_000_000)")
        assert len(result["stdout"]) == 1_000_001
        assert len(json.dumps(result)) > 3 * MEGABYTE
        first, last = session.cells()
        assert (last["removed"], last["result"]) == ("result", None)
        assert first["result"]["stdout"] == "1\n"


def test_session_with_a_shortened_history_is_resumed(open_service: Callable[..., Service]) -> None:
    """After a restart, the next cell has the next number, and the execution count goes on."""
    for service in serving(open_service, **GENEROUS, KEY_HISTORY_MB=1):
        with new_session(service) as session:
            for _ in range(4):
                session.run("print('x' * 400_000)")
            assert len(session.cells()) == 4
            service.crash()
            service.restart()
            assert session.describe()["execution_count"] == 4
            session.run("1")
            assert [cell["number"] for cell in session.cells()] == [1, 2, 3, 4, 5]
