"""API keys for the tests: made by the command, used by clients of their own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.api import Api
from tests.support.process import ROOT, Service


def key_command(file: Path | None, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code-interpreter-api keys`, as an operator does."""
    given = [] if file is None else ["--file", str(file)]
    return subprocess.run(
        [sys.executable, "-m", "service", "keys", *given, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def make_key(file: Path, name: str, command: str = "add") -> str:
    """A new key of that name, which is in the file now."""
    ended = key_command(file, command, name)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.removesuffix("\n")


class KeyedService:
    """A service that wants keys, and the file they are in."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service = service
        self.file = file
        self._keys: dict[str, str] = {}
        self._apis: dict[str, Api] = {}

    def key(self, name: str) -> str:
        """The key of a name; it is made when it is asked for first."""
        if name not in self._keys:
            self._keys[name] = make_key(self.file, name)
        return self._keys[name]

    def every_key(self) -> list[str]:
        """All keys that were made by `key`."""
        return list(self._keys.values())

    def api(self, name: str) -> Api:
        """The client with the key of that name."""
        if name not in self._apis:
            self._apis[name] = Api(self.service.base_url, self.key(name))
        return self._apis[name]

    def close(self) -> None:
        """Close the clients."""
        for api in self._apis.values():
            api.close()
