"""API keys for tests: the command makes them, and each has its own client."""

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
    """Add a key with this name to the file, and return the key."""
    ended = key_command(file, command, name)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.removesuffix("\n")


class KeyedService:
    """A service that requires keys, with its key file, and a client for each key."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service = service
        self.file = file
        self._keys: dict[str, str] = {}
        self._apis: dict[str, Api] = {}

    def key(self, name: str) -> str:
        """Return the key of a name. The first call makes it."""
        if name not in self._keys:
            self._keys[name] = make_key(self.file, name)
        return self._keys[name]

    def every_key(self) -> list[str]:
        """Return all keys that `key` has made."""
        return list(self._keys.values())

    def api(self, name: str) -> Api:
        """Return the client with the key of a name."""
        if name not in self._apis:
            self._apis[name] = Api(self.service.base_url, self.key(name))
        return self._apis[name]

    def close(self) -> None:
        """Close the clients."""
        for api in self._apis.values():
            api.close()
