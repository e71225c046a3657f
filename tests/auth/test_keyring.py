"""Keys by themselves: what is one, what a request carries, what the file may say, what a check costs."""

import logging
import os
import time
from pathlib import Path

import pytest

from service.auth.errors import KeyFileInvalid, KeyInvalid, KeyMissing
from service.auth.keyring import Keyring, digest, presented, read_key_file, without_keys
from service.errors import SettingsInvalid
from service.settings import load_settings
from service.settings.api_keys import split_keys
from sessions.records import ONE_TENANT

HEX = digest("key of alice").hex()
OTHER = digest("key of bob").hex()


def key_file(folder: Path, text: str) -> Path:
    """A key file with that text."""
    path = folder / "keys"
    path.write_text(text)
    return path


# API_KEYS --------------------------------------------------------------------------------------


def test_keys_are_split_at_commas_and_the_first_colon() -> None:
    """A key may have colons; space around names and keys does not count."""
    assert split_keys(" alice:a:b:c , bob.2 : ~!@#$%^&*()=' ") == {
        "alice": "a:b:c",
        "bob.2": "~!@#$%^&*()='",
    }


@pytest.mark.parametrize(
    "text",
    [
        ",",
        " ",
        "hunter2hunter2",
        ":hunter2",
        "alice:",
        "alice: ",
        "alice:hunter2,",
        "alice:hunter2,,bob:x",
        "ali ce:hunter2",
        "älice:hunter2",
        f"{'a' * 65}:hunter2",
        "-alice:hunter2",
        "alice:hunter2 hunter2",
        "alice:hunter2é",
        "alice:hunter2\u00a0x",
        "alice:hunter2\x00",
        "alice:hunter2,alice:other",
        "alice:hunter2,Alice:other",
        "alice:hunter2,bob:hunter2",
    ],
)
def test_what_is_no_key_stops_the_start_and_is_not_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the setting; whatever is in it may be a key, so it is not repeated."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (whichever it says, it is a ValueError)
        split_keys(text)
    assert "hunter2" not in str(caught.value)
    if "\x00" not in text:
        monkeypatch.setenv("API_KEYS", text)
        with pytest.raises(SettingsInvalid, match="API_KEYS: ") as refused:
            load_settings()
        assert "hunter2" not in str(refused.value)


def test_settings_do_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as text nor as JSON; those who ask for the keys get them."""
    monkeypatch.setenv("API_KEYS", "alice:hunter2")
    settings = load_settings()
    assert "hunter2" not in repr(settings) + str(settings) + settings.keys.model_dump_json()
    assert settings.keys.given_keys == {"alice": "hunter2"}
    assert settings.keys.needs_key


def test_limits_of_keys_hold_where_there_are_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys no client of the original meets a new limit."""
    assert load_settings().keys.limits.requests_per_minute == 0
    assert load_settings().keys.limits.storage_bytes == 0
    monkeypatch.setenv("API_KEYS_FILE", "keys")
    limits = load_settings().keys.limits
    assert (limits.requests_per_minute, limits.executions, limits.sessions) == (600, 8, 4)
    assert limits.storage_bytes == 2**30


# What a request carries ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([], set()),
        ([(b"x-api-key", b"k")], {b"k"}),
        ([(b"authorization", b"Bearer k")], {b"k"}),
        ([(b"authorization", b"  bEARER   k  ")], {b"k"}),
        ([(b"authorization", b"Bearer k k")], {b"k k"}),
        ([(b"authorization", b"k")], set()),
        ([(b"authorization", b"Bearer")], set()),
        ([(b"authorization", b"Bearer ")], set()),
        ([(b"authorization", b"Bearerk")], set()),
        ([(b"authorization", b"Basic k"), (b"x-api-key", b"j")], {b"j"}),
        ([(b"x-api-key", b""), (b"authorization", b"Bearer k")], {b"k"}),
        ([(b"x-api-key", b"k"), (b"x-api-key", b"k"), (b"authorization", b"Bearer k")], {b"k"}),
        ([(b"x-api-key", b"k"), (b"authorization", b"Bearer j")], {b"k", b"j"}),
        ([(b"x-api-key", b"k,k")], {b"k,k"}),
        ([(b"cookie", b"x-api-key=k"), (b"api-key", b"k"), (b"x-api-key-2", b"k")], set()),
    ],
)
def test_two_headers_may_carry_a_key(headers: list[tuple[bytes, bytes]], keys: set[bytes]) -> None:
    """Bearer in any case, and X-API-Key; other schemes are not ours; empty is none."""
    assert presented(headers) == keys


def test_a_request_is_of_the_name_of_its_key() -> None:
    """One key is its name's; none is missing; a wrong one, or two, are invalid."""
    keyring = Keyring({"alice": "a" * 32, "bob": "b" * 32}, None)
    assert keyring.find([(b"x-api-key", b"a" * 32)]).owner == "alice"
    assert keyring.find([(b"authorization", b"bearer " + b"b" * 32)]).owner == "bob"
    with pytest.raises(KeyMissing):
        keyring.find([(b"x-api-key", b"")])
    for wrong in (b"a" * 31, b"a" * 33, b"A" * 32, b"alice", digest("a" * 32).hex().encode(), b"\xff"):
        with pytest.raises(KeyInvalid):
            keyring.find([(b"x-api-key", wrong)])
    with pytest.raises(KeyInvalid):
        keyring.find([(b"x-api-key", b"a" * 32), (b"x-api-key", b"b" * 32)])


def test_without_keys_all_are_one_owner_with_containers_apart() -> None:
    """Whatever a caller sends."""
    callers = [
        without_keys(headers)
        for headers in ([], [(b"x-api-key", b"k")], [(b"authorization", b"Bearer j")], [(b"x-api-key", b"")])
    ]
    assert {caller.owner for caller in callers} == {ONE_TENANT}
    assert callers[0].tenant == callers[3].tenant == ""
    assert len({caller.tenant for caller in callers}) == 3


# The file --------------------------------------------------------------------------------------


def test_a_file_has_names_and_hashes(tmp_path: Path) -> None:
    """Empty lines and comments do not count, nor do other ends of lines."""
    path = key_file(tmp_path, f"# ours\r\n\r\nalice:sha256:{HEX}\r\n  bob:sha256:{OTHER}")
    assert read_key_file(path) == {"alice": digest("key of alice"), "bob": digest("key of bob")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"alice:sha256:{HEX}\nbob:hunter2\n", "line 2 is not"),
        (f"alice:sha256:{HEX}hunter2", "line 1 is not"),
        (f"alice:{HEX}", "line 1 is not"),
        (f":sha256:{HEX}", "line 1 is not"),
        (f"alice:sha256:{HEX}\nalice:sha256:{OTHER}", "'alice' is there twice"),
        (f"alice:sha256:{HEX}\nbob:sha256:{HEX}", "'bob' has the key of another name"),
    ],
)
def test_a_file_that_makes_no_sense_is_told(tmp_path: Path, text: str, reason: str) -> None:
    """The sentence names setting, file and line, and shows nothing that may be a key."""
    path = key_file(tmp_path, text)
    with pytest.raises(KeyFileInvalid, match=f"^API_KEYS_FILE={path} cannot be used: .*{reason}") as caught:
        Keyring({}, path)
    assert "hunter2" not in str(caught.value)
    assert HEX not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Missing, a folder, or no text."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(KeyFileInvalid, match=str(path)):
            Keyring({}, path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KeyFileInvalid, match="not text"):
        Keyring({}, binary)


def test_a_name_in_both_places_is_told(tmp_path: Path) -> None:
    """The file and API_KEYS are one list."""
    path = key_file(tmp_path, f"alice:sha256:{HEX}\n")
    with pytest.raises(KeyFileInvalid, match=r"'alice' is there twice \(API_KEYS counts as well\)"):
        Keyring({"alice": "another"}, path)
    with pytest.raises(KeyFileInvalid, match="'alice' has the key of another name"):
        Keyring({"bob": "key of alice"}, path)


def test_a_change_of_the_file_is_seen_by_the_next_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also a removal; while the file is bad or gone the keys it had stay valid, and the log says so once."""
    path = key_file(tmp_path, f"alice:sha256:{HEX}\n")
    keyring = Keyring({"env": "key of env"}, path)
    alice, bob = ([(b"x-api-key", f"key of {name}".encode())] for name in ("alice", "bob"))
    assert keyring.find(alice).owner == "alice"

    path.write_text("bob:hunter2\n")
    assert [keyring.find(alice).owner for _ in range(3)] == ["alice"] * 3
    path.unlink()
    assert [keyring.find(alice).owner for _ in range(3)] == ["alice"] * 3
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all("stay valid" in error and "hunter2" not in error for error in errors)

    path.write_text(f"bob:sha256:{OTHER}\n")
    assert keyring.find(bob).owner == "bob"
    with pytest.raises(KeyInvalid):
        keyring.find(alice)
    path.write_text("")
    with pytest.raises(KeyInvalid):
        keyring.find(bob)
    assert keyring.find([(b"x-api-key", b"key of env")]).owner == "env"


def test_a_file_without_keys_refuses_everybody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Removing the last key must not open the door; the log says why nobody comes in."""
    keyring = Keyring({}, key_file(tmp_path, "# nobody\n"))
    assert "every call is refused" in caplog.text
    for headers, error in (([], KeyMissing), ([(b"x-api-key", b"x")], KeyInvalid)):
        with pytest.raises(error):
            keyring.find(headers)


def test_a_file_behind_a_link_that_is_switched_is_read_again(tmp_path: Path) -> None:
    """As mounted secrets are changed: same name, same size, another file."""
    for number, hashed in enumerate((HEX, OTHER)):
        (tmp_path / f"{number}").write_text(f"name:sha256:{hashed}\n")
    os.utime(tmp_path / "0", (1, 1))
    os.utime(tmp_path / "1", (1, 1))
    path = tmp_path / "keys"
    path.symlink_to(tmp_path / "0")
    keyring = Keyring({}, path)
    path.unlink()
    path.symlink_to(tmp_path / "1")
    assert keyring.find([(b"x-api-key", b"key of bob")]).owner == "name"
    with pytest.raises(KeyInvalid):
        keyring.find([(b"x-api-key", b"key of alice")])


def test_a_check_costs_far_less_than_a_millisecond(tmp_path: Path) -> None:
    """Of CPU time, with a hundred keys and a file that is looked at, whichever key it is."""
    lines = [f"name-{number}:sha256:{digest(f'key {number}').hex()}\n" for number in range(100)]
    keyring = Keyring({}, key_file(tmp_path, "".join(lines)))
    for number in (0, 99):
        headers = [(b"host", b"x"), (b"accept", b"*/*"), (b"x-api-key", f"key {number}".encode())]
        costs = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(200):
                keyring.find(headers)
            costs.append((time.process_time() - began) / 200)
        assert min(costs) < 0.000_3, costs
