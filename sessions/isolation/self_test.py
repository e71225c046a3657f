"""The start-up self-test: what the user's code could do in a container is found out by doing it.

`examine` runs `kernel_image.confinement.probe` in a kernel launched like any other, while the self-test
listens on the addresses that the probe dials. `isolation_checks` judges the findings. The probe dials only
addresses of this machine.
"""

import contextlib
import json
import select
import socket
from collections.abc import Iterator
from typing import Any, Final

from kernel_image import contract
from sessions.containers.deployment import LOOPBACK
from sessions.containers.engine import Engine
from sessions.containers.sandbox import Sandbox
from sessions.isolation.isolation_checks import Check, judge, not_done
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
"""In a process of its own, so that neither a name nor a module of it stays in the kernel."""
_PROBE_SEC: Final = 30.0
_BUDGET: Final = Budget(cpu_sec=30, memory_bytes=1 << 30, output_bytes=1 << 20, display_bytes=10_000)
_PEERS: Final = 4
"""Other containers that are knocked at, at most."""
_ANY_PORT: Final = 9


async def examine(
    engine: Engine, sandbox: Sandbox, spec: ContainerSpec, service_port: int
) -> tuple[Check, ...]:
    """Try every wall around a kernel that has run no code yet; it is as it was afterwards.

    Args:
        spec: what the container was launched from.
        service_port: where the service listens, already.

    Raises:
        EngineUnavailable, SupervisorFailed: the container is lost.
    """
    around = await engine.surroundings(sandbox.container_id)
    with contextlib.ExitStack() as stack:
        # Loopback is the kernel's own: who reaches its ports there shares a machine with the gateway.
        towards = around.gateway if around.host == LOOPBACK else around.host
        try:
            own = _address_towards(towards)
            tcp, udp = stack.enter_context(_listeners(own))
        except OSError as error:
            return (not_done(f"there is no way to listen towards {towards}: {error}"),)
        hosts = sorted({own, towards, around.gateway})
        published = sandbox.connection.container.ports.values()
        targets = {
            "tcp": {
                "host": [*((host, tcp.getsockname()[1]) for host in hosts), *around.others],
                "service": [(host, port) for host in hosts for port in sorted({service_port, *around.doors})],
                "kernels": [
                    *((host, port) for host in hosts for port in published),
                    *((peer, port) for peer in around.peers[:_PEERS] for port in contract.PORTS),
                ],
            },
            "udp": [(host, udp.getsockname()[1]) for host in hosts],
        }
        text = await _probe(sandbox, targets)
        heard = select.select([tcp, udp], [], [], 0)[0]
    try:
        facts = json.loads(text["stdout"])
    except ValueError:
        last_words = text["stderr"].strip().splitlines()[-1:] or ["it said nothing"]
        return (not_done(f"it ended early: {last_words[0]}"),)
    facts["heard"] = [name for name, listener in (("tcp", tcp), ("udp", udp)) if listener in heard]
    return judge(facts, spec.limits, engine.lacks)


def _address_towards(target: str) -> str:
    """This process's own address on the way to the containers; nothing is sent.

    It is the gateway itself unless the service runs in a container, too, or far from the engine.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.connect((target, _ANY_PORT))
        host: str = channel.getsockname()[0]
        return host


@contextlib.contextmanager
def _listeners(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP socket on an address; the system answers, and keeps what comes for a later look."""
    with (
        socket.create_server((host, 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind((host, 0))
        yield tcp, udp


async def _probe(sandbox: Sandbox, targets: dict[str, Any]) -> dict[str, str]:
    """Run the probe; what it wrote, by stream."""
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
