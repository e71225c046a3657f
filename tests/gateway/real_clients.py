"""Jupyter's own programs as processes: JupyterLab with the service as its gateway, and nbclient."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import nbformat

from tests.support.process import ROOT, free_port

START_SEC = 90.0


def notebook(path: Path, *cells: str, kernel: str = "python3") -> None:
    """Write a notebook with these cells."""
    made = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
        cells=[nbformat.v4.new_code_cell(source) for source in cells],  # type: ignore[no-untyped-call]
    )
    nbformat.write(made, path)  # type: ignore[no-untyped-call]


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with settings and data for one test."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "ignore", **more}


class Cable:
    """A proxy in front of a TCP port, whose connections can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ends = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                self._ends += ends
                for one, other in (ends, ends[::-1]):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Close all connections; new ones can be opened."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Stop listening and close all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


class Lab:
    """A JupyterLab on this machine, with its notebooks in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.http = httpx.Client(base_url=url, timeout=60)

    def sessions(self) -> list[dict[str, Any]]:
        """Return JupyterLab's sessions: which notebook has which kernel."""
        listed: list[dict[str, Any]] = self.http.get("/api/sessions").json()
        return listed


@contextmanager
def jupyter_lab(gateway_url: str, key: str, folder: Path) -> Iterator[Lab]:
    """Run `jupyter lab --gateway-url=…` without any requests to other machines."""
    port = free_port()
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    settings = folder / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", f"--gateway-url={gateway_url}", f"--ServerApp.root_dir={notebooks}"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"]
    command += ["--LabApp.extension_manager=readonly"]
    log = folder / "lab.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=surroundings(folder, JUPYTER_GATEWAY_AUTH_TOKEN=key),
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    lab = Lab(f"http://127.0.0.1:{port}", notebooks)
    try:
        deadline = time.monotonic() + START_SEC
        while not _answers(lab):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield lab
    finally:
        lab.http.close()
        process.terminate()
        process.wait(60)


def _answers(lab: Lab) -> bool:
    with suppress(httpx.TransportError):
        return lab.http.get("/api").status_code == 200
    return False


# Runs nbclient with the kernels of a gateway. jupyter_server's client sends no key with its WebSocket, so the
# script adds the key.
NBCLIENT = """
import functools, os, sys
import nbformat, websocket
from nbclient import NotebookClient

if key := os.environ.get("JUPYTER_GATEWAY_AUTH_TOKEN"):
    header = [f"Authorization: token {key}"]
    websocket.create_connection = functools.partial(websocket.create_connection, header=header)
path = sys.argv[1]
notebook = nbformat.read(path, as_version=4)
manager = "jupyter_server.gateway.managers.GatewayKernelManager"
try:
    client = NotebookClient(notebook, kernel_manager_class=manager, timeout=60)
    # Without the name, its manager uses the default kernelspec and ignores the one in the notebook.
    client.execute(kernel_name=notebook.metadata.kernelspec.name)
finally:
    nbformat.write(notebook, path)
"""


def run_notebook(path: Path, gateway_url: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a notebook in place with nbclient."""
    more = {"JUPYTER_GATEWAY_URL": gateway_url}
    if key is not None:
        more["JUPYTER_GATEWAY_AUTH_TOKEN"] = key
    return subprocess.run(
        [sys.executable, "-c", NBCLIENT, str(path)],
        env=surroundings(path.parent, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
