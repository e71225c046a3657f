"""Where the Docker engine is."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sessions.containers.errors import EngineMissing, EngineUnsupported

SYSTEM_SOCKET: Final = Path("/var/run/docker.sock")
NESTED_SOCKET: Final = Path("/run/code-interpreter/docker.sock")
"""Socket of an engine in the service's own container.

The service gets it in DOCKER_HOST. A program that is started by `docker exec` has to find it.
"""
_SCHEMES: Final = ("unix", "tcp", "http", "https")


@dataclass(frozen=True)
class EngineAddress:
    """URL of the engine, and where it was found. The TLS fields are as in Docker's environment variables."""

    url: str
    why: str = "DOCKER_HOST says so"
    tls_verify: str = ""
    cert_path: str = ""

    @property
    def socket(self) -> Path | None:
        """Path of the engine's socket; None if the engine is reached by TCP."""
        parts = urlsplit(self.url)
        return Path(parts.path) if parts.scheme == "unix" else None

    @property
    def host(self) -> str | None:
        """Host name in the URL; None if the engine is reached by a socket."""
        return urlsplit(self.url).hostname if self.socket is None else None


def find_engine(
    docker_host: str | None, tls_verify: str = "", cert_path: str = "", runtime_dir: Path | None = None
) -> EngineAddress:
    """Return the engine that `DOCKER_HOST` names, or else the first one with a socket at a usual place.

    Args:
        docker_host: value of DOCKER_HOST.
        tls_verify: value of DOCKER_TLS_VERIFY.
        cert_path: value of DOCKER_CERT_PATH.
        runtime_dir: value of XDG_RUNTIME_DIR, where a rootless engine has its socket.

    Raises:
        EngineMissing: DOCKER_HOST is unset, and there is no socket.
        EngineUnsupported: the containers' ports cannot be reached by this kind of URL.
    """
    if docker_host:
        if urlsplit(docker_host).scheme not in _SCHEMES:
            raise EngineUnsupported(docker_host)
        return EngineAddress(docker_host, tls_verify=tls_verify, cert_path=cert_path)
    places = [SYSTEM_SOCKET, NESTED_SOCKET, *_rootless_sockets(runtime_dir)]
    for place in places:
        with suppress(OSError):
            if place.is_socket():
                return EngineAddress(f"unix://{place}", "its socket is there")
    raise EngineMissing(tuple(map(str, places)))


def _rootless_sockets(runtime_dir: Path | None) -> Iterator[Path]:
    if runtime_dir is not None:
        yield runtime_dir / "docker.sock"
    yield Path(f"/run/user/{os.getuid()}/docker.sock")
    with suppress(RuntimeError):
        yield Path("~/.docker/run/docker.sock").expanduser()
        yield Path("~/.docker/desktop/docker.sock").expanduser()
