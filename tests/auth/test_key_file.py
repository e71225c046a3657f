"""Tests of changes of the key file while the service runs, and of what the service writes about keys."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.auth.keyring import digest
from tests.auth.belongings import ENV_KEY, Things, answered, make_things
from tests.support.api import Api, problem
from tests.support.keys import KeyedService, key_command, make_key
from tests.support.process import ROOT
from tests.support.session import Session

pytestmark = pytest.mark.timeout(120)


def test_new_key_of_a_name_gets_the_data_of_the_old_key(keyed: KeyedService) -> None:
    """A replaced or removed key is refused from the next request on. The session and the file are kept."""
    things = make_things(keyed, "eve")
    api = keyed.api("eve")
    with api.open_stream("import time\nfor _ in range(8): print(1, flush=True); time.sleep(0.2)") as events:
        next(events)
        second = make_key(keyed.file, "eve", "replace")
        assert problem(api.http.get("/v1/files"))["code"] == "key_invalid"
        assert [event.type for event in events][-1] == "result"
    for path, call in (("", {}), ("/execute", {"json": {"code": "1"}})):
        method = "POST" if call else "GET"
        assert problem(things.session.call(method, path, **call))["code"] == "key_invalid"
    assert key_command(keyed.file, "remove", "eve").returncode == 0
    assert answered(keyed.service, ("X-API-Key", second)) == "key_invalid"
    third = Api(keyed.service.base_url, make_key(keyed.file, "eve"))
    session = Session(keyed.service, things.session.created, third)
    assert session.printed("print(secret)") == things.secret
    assert third.download(things.file_id).decode() == things.secret
    session.delete()
    third.close()


def test_keys_stay_valid_while_the_key_file_is_invalid(keyed: KeyedService) -> None:
    """The log has one error, which does not repeat the invalid line."""
    api, good = keyed.api("alice"), keyed.file.read_text()
    assert api.http.get("/v1/files").status_code == 200
    keyed.file.write_text(good + "mallory:hunter2\n")
    try:
        for _ in range(3):
            assert api.http.get("/v1/files").status_code == 200
        assert answered(keyed.service, ("X-API-Key", "hunter2")) == "key_invalid"
    finally:
        keyed.file.write_text(good)
    assert api.http.get("/v1/files").status_code == 200
    log = keyed.service.log_path.read_text()
    assert len(re.findall(r"ERROR service.auth.keyring API_KEYS_FILE=.* line \d+ is not", log)) == 1
    assert "hunter2" not in log


def test_no_key_is_in_the_log_or_the_registry(keyed: KeyedService, alices: Things) -> None:
    """Neither a key nor its hash is written, even at the level DEBUG. The log has the names of the keys."""
    api = keyed.api("alice")
    api.http.get(
        "/v1/files", params={"key": keyed.key("alice")}, headers={"Authorization": "Bearer wrong-key"}
    )
    api.http.get("/v1/files")
    for headers in ([("X-API-Key", ENV_KEY)], [("Authorization", f"Bearer {ENV_KEY}")]):
        assert answered(keyed.service, *headers) == 200
    written = keyed.service.log_path.read_bytes()
    for path in keyed.service.storage.rglob("*"):
        if path.is_file():
            written += path.read_bytes()
    assert re.search(rb'service.http.server.access_log \S+ alice "GET /v1/files" 200', written)
    assert re.search(rb'service.http.server.access_log \S+ - "GET /v1/files" 401', written)
    assert b"wrong-key" not in written
    for key in (*keyed.every_key(), ENV_KEY):
        assert key.encode() not in written
        assert digest(key).hex().encode() not in written
        assert digest(key) not in written


def test_unusable_key_file_stops_the_start(tmp_path: Path) -> None:
    """The service prints one line and exits with 1, or with 2 for invalid `API_KEYS`. No key is shown."""
    for status, sentence, variables in (
        (1, f"API_KEYS_FILE={tmp_path}/nothing cannot be used", {"API_KEYS_FILE": f"{tmp_path}/nothing"}),
        (2, "API_KEYS: entry 2 is not NAME:KEY", {"API_KEYS": "alice:hunter2,hunter2"}),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "FILE_STORAGE_DIR": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == status, ended.stderr
        assert ended.stderr.startswith(sentence)
        assert len(ended.stderr.splitlines()) == 1
        assert "hunter2" not in ended.stderr
