"""The start-up self-test: user code in a container tries what it must not be able to do.

`examine` runs `kernel_image.confinement.probe` in a kernel that was launched like any other. Meanwhile the
self-test listens on the addresses that the probe tries to reach. `isolation_checks` judges the findings. The
probe tries to reach addresses of this machine only.
"""

import contextlib
import json
import select
import socket
from collections.abc import Iterator
from typing import Any, Final

from kernel_image import contract
from sessions.containers.engine import Engine
from sessions.containers.sandbox import Sandbox
from sessions.isolation.check import CheckResult
from sessions.isolation.isolation_checks import check_isolation, probe_failed
from sessions.models import Budget, Cell, CellResult, ContainerSpec, OutputChunk

_PROBE: Final = """
import os, sys, traceback
child = os.fork()
if child == 0:
    try:
        from kernel_image.confinement import probe
        probe.main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(0)
os.waitpid(child, 0)
"""
"""The probe runs in a process of its own, so that no name or module of it stays in the kernel."""
_PROBE_SEC: Final = 30.0
_BUDGET: Final = Budget(cpu_sec=30, memory_bytes=1 << 30, output_bytes=1 << 20, display_bytes=10_000)
_MAX_PEERS: Final = 4
"""Number of other containers that the probe tries to reach."""
_ANY_PORT: Final = 9
_LOOPBACK: Final = "127.0.0.1"


async def examine(
    engine: Engine, sandbox: Sandbox, spec: ContainerSpec, service_port: int
) -> tuple[CheckResult, ...]:
    """Apply every isolation check to a kernel that has run no code yet, and leave it as it was.

    Args:
        engine: the engine that runs the sandbox.
        sandbox: where the probe runs.
        spec: what the container was launched with.
        service_port: the TCP port on which the service listens already.

    Raises:
        EngineUnavailable, SupervisorFailed: the container is lost.
    """
    around = await engine.surroundings(sandbox.container_id)
    with contextlib.ExitStack() as stack:
        # A kernel has its own loopback. If its ports are published on this machine's loopback, the address of
        # this machine on the containers' network is the gateway.
        towards = around.gateway if around.host == _LOOPBACK else around.host
        try:
            own = _address_towards(towards)
            tcp, udp = stack.enter_context(_listeners(own))
        except OSError as error:
            return (probe_failed(f"the self-test cannot listen on the way to {towards}: {error}"),)
        hosts = sorted({own, towards, around.gateway})
        service_ports = sorted({service_port, *around.service_ports})
        published = sandbox.connection.container.ports.values()
        targets = {
            "tcp": {
                "host": [*((host, tcp.getsockname()[1]) for host in hosts), *around.others],
                "service": [(host, port) for host in hosts for port in service_ports],
                "kernels": [
                    *((host, port) for host in hosts for port in published),
                    *((peer, port) for peer in around.peers[:_MAX_PEERS] for port in contract.PORTS),
                ],
            },
            "udp": [(host, udp.getsockname()[1]) for host in hosts],
        }
        text = await _probe(sandbox, targets)
        readable = select.select([tcp, udp], [], [], 0)[0]
    try:
        facts = json.loads(text["stdout"])
    except ValueError:
        last_line = text["stderr"].strip().splitlines()[-1:] or ["it printed nothing"]
        return (probe_failed(f"it ended early: {last_line[0]}"),)
    facts["received"] = [name for name, listener in (("tcp", tcp), ("udp", udp)) if listener in readable]
    user_id = sandbox.connection.container.user_id
    return check_isolation(facts, spec.limits, user_id, engine.unsupported_features)


def _address_towards(target: str) -> str:
    """Return this process's own address on the way to the containers. Nothing is sent.

    It is the gateway itself, unless the service runs in a container or on another machine.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.connect((target, _ANY_PORT))
        host: str = channel.getsockname()[0]
        return host


@contextlib.contextmanager
def _listeners(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open a TCP and a UDP socket on an address. Linux queues what arrives until it is read."""
    with (
        socket.create_server((host, 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind((host, 0))
        yield tcp, udp


async def _probe(sandbox: Sandbox, targets: dict[str, Any]) -> dict[str, str]:
    """Run the probe, and return what it printed, by stream."""
    cell = Cell(
        code=f"exec({_PROBE!r}, {{}})",
        stdin=json.dumps(targets),
        timeout_sec=_PROBE_SEC,
        last_line_interactive=False,
        final=False,
        counted=False,
    )
    text = {"stdout": "", "stderr": ""}
    async with sandbox.runner.begin(cell, _BUDGET) as events:
        async for event in events:
            if isinstance(event, OutputChunk):
                text[event.stream] += event.text
            elif isinstance(event, CellResult) and event.error is not None:
                text["stderr"] += event.error.value
    return text
