"""Tests of the keyring without a service: `API_KEYS`, the headers of a request, the key file, CPU time."""

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
    """Write a key file with that text and return its path."""
    path = folder / "keys"
    path.write_text(text)
    return path


# API_KEYS --------------------------------------------------------------------------------------


def test_keys_are_split_at_commas_and_the_first_colon() -> None:
    """A key may contain colons. Space around names and keys is ignored."""
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
def test_invalid_api_keys_stop_the_start_and_are_not_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the setting. It does not repeat the text, which may contain a key."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the messages have nothing in common)
        split_keys(text)
    assert "hunter2" not in str(caught.value)
    if "\x00" not in text:
        monkeypatch.setenv("API_KEYS", text)
        with pytest.raises(SettingsInvalid, match="API_KEYS: ") as refused:
            load_settings()
        assert "hunter2" not in str(refused.value)


def test_settings_do_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text nor the JSON of the settings contains a key. `given_keys` returns the keys."""
    monkeypatch.setenv("API_KEYS", "alice:hunter2")
    settings = load_settings()
    assert "hunter2" not in repr(settings) + str(settings) + settings.keys.model_dump_json()
    assert settings.keys.given_keys == {"alice": "hunter2"}
    assert settings.keys.needs_key


def test_keys_have_default_limits_only_if_keys_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys, clients of the original API have no new limits."""
    assert load_settings().keys.limits.requests_per_minute == 0
    assert load_settings().keys.limits.storage_bytes == 0
    monkeypatch.setenv("API_KEYS_FILE", "keys")
    limits = load_settings().keys.limits
    assert (limits.requests_per_minute, limits.executions, limits.sessions) == (600, 8, 4)
    assert limits.storage_bytes == 2**30


# The headers of a request -----------------------------------------------------------------------


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
    """`Authorization: Bearer`, in any case, and `X-API-Key`. Other schemes and empty keys are ignored."""
    assert presented(headers) == keys


def test_keyring_finds_the_owner_of_a_request() -> None:
    """A request without a key, with a wrong key, or with two different keys raises an error."""
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


def test_without_keys_callers_have_one_owner_and_separate_tenants() -> None:
    """A key in the headers selects the tenant, although no keys are set."""
    callers = [
        without_keys(headers)
        for headers in ([], [(b"x-api-key", b"k")], [(b"authorization", b"Bearer j")], [(b"x-api-key", b"")])
    ]
    assert {caller.owner for caller in callers} == {ONE_TENANT}
    assert callers[0].tenant == callers[3].tenant == ""
    assert len({caller.tenant for caller in callers}) == 3


# The file --------------------------------------------------------------------------------------


def test_key_file_has_names_and_hashes(tmp_path: Path) -> None:
    """Empty lines and comments are ignored. Lines may end as on Windows."""
    path = key_file(tmp_path, f"# ours\r\n\r\nalice:sha256:{HEX}\r\n  bob:sha256:{OTHER}")
    assert read_key_file(path) == {"alice": digest("key of alice"), "bob": digest("key of bob")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"alice:sha256:{HEX}\nbob:hunter2\n", "line 2 is not"),
        (f"alice:sha256:{HEX}hunter2", "line 1 is not"),
        (f"alice:{HEX}", "line 1 is not"),
        (f":sha256:{HEX}", "line 1 is not"),
        (f"alice:sha256:{HEX}\nalice:sha256:{OTHER}", "'alice' occurs twice"),
        (f"alice:sha256:{HEX}\nbob:sha256:{HEX}", "'bob' has the key of another name"),
    ],
)
def test_invalid_key_file_is_reported(tmp_path: Path, text: str, reason: str) -> None:
    """The error names the setting, the file and the line. It contains neither a key nor a hash."""
    path = key_file(tmp_path, text)
    with pytest.raises(KeyFileInvalid, match=f"^API_KEYS_FILE={path} cannot be used: .*{reason}") as caught:
        Keyring({}, path)
    assert "hunter2" not in str(caught.value)
    assert HEX not in str(caught.value)


def test_unreadable_key_file_is_reported(tmp_path: Path) -> None:
    """The file is missing, is a folder, or is not text."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(KeyFileInvalid, match=str(path)):
            Keyring({}, path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KeyFileInvalid, match="not UTF-8 text"):
        Keyring({}, binary)


def test_name_or_key_in_both_sources_is_reported(tmp_path: Path) -> None:
    """`API_KEYS` and the key file must not repeat a name or a key."""
    path = key_file(tmp_path, f"alice:sha256:{HEX}\n")
    with pytest.raises(KeyFileInvalid, match=r"'alice' occurs twice \(in API_KEYS and the file together\)"):
        Keyring({"alice": "another"}, path)
    with pytest.raises(KeyFileInvalid, match="'alice' has the key of another name"):
        Keyring({"bob": "key of alice"}, path)


def test_changed_key_file_is_read_by_the_next_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A removed key is refused. While the file is invalid or missing, the old keys stay valid.

    Each such state of the file is logged once.
    """
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


def test_empty_key_file_refuses_every_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Removing the last key must not open the service to callers without a key. The log has a warning."""
    keyring = Keyring({}, key_file(tmp_path, "# no keys\n"))
    assert "every call is refused" in caplog.text
    for headers, error in (([], KeyMissing), ([(b"x-api-key", b"x")], KeyInvalid)):
        with pytest.raises(error):
            keyring.find(headers)


def test_key_file_is_read_again_if_its_link_has_a_new_target(tmp_path: Path) -> None:
    """Kubernetes changes mounted secrets in this way: same name, size and time, but another file."""
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


def test_finding_the_key_takes_less_than_a_third_of_a_millisecond(tmp_path: Path) -> None:
    """CPU time, with a hundred keys and a key file, for the first and for the last key."""
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
