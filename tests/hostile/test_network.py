"""Tests of the closed network: code in a kernel tries to reach listeners that the tests open."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from kernel_image import contract
from tests.conftest import StartService
from tests.support.engine import Engine
from tests.support.network import listeners, own_addresses
from tests.support.process import Service

ESCAPE = (Path(__file__).parents[1] / "inside" / "escape.py").read_text()
CONNECT_TO_ALL = """
import json, socket
ended = {}
for host, port in json.loads(input()):
    try:
        socket.create_connection((host, port), timeout=2).close()
        ended[f"{host}:{port}"] = "reached"
    except OSError as error:
        ended[f"{host}:{port}"] = type(error).__name__
print(json.dumps(ended))
"""
WAYS_OUT = (
    "mapped into IPv6",
    "bound to the interface",
    "with a mark",
    "with a priority",
    "by a route of its own",
    "transparent",
    *(f"from the published port {port}" for port in contract.PORTS),
    "fast open",
    "by a child's shell",
    "datagram",
    "datagram from a published port",
    "broadcast",
    "multicast",
    "connected datagram",
    "Unix socket of the host",
    "new address",
    "interface down",
    "new interface",
    "flush of nftables",
)


@pytest.fixture(scope="module")
def escapes(service: Service, engine: Engine) -> dict[str, dict[str, Any]]:
    """Run `tests/inside/escape.py`, check that nothing arrived; return how each attempt ended, by name."""
    _, gateway, _ = engine.network(min(service.settle(at_target=False)))
    abstract = f"code-interpreter-tests-{time.monotonic_ns()}"
    with listeners() as host, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{abstract}")
        unix.listen()
        for family, address in ((socket.AF_INET, (gateway, host.port)), (socket.AF_UNIX, f"\0{abstract}")):
            with socket.socket(family) as works:
                works.connect(address)
        deadline = time.monotonic() + 60
        while not host.received and time.monotonic() < deadline:
            time.sleep(0.02)
        assert host.received, "the listeners themselves work"
        host.received.clear()

        targets = {"host": gateway, "port": host.port, "abstract": abstract, "own": contract.PORTS}
        result = service.api.run(ESCAPE, stdin=json.dumps(targets), timeout_ms=30_000)
        assert result["exit_code"] == 0, result["stderr"][-2000:]
        time.sleep(0.3)
        assert host.received == [], "a connection left a kernel"
    return {attempt["name"]: attempt for attempt in json.loads(result["stdout"])}


def test_most_attempts_succeed_from_a_plain_container(service: Service, engine: Engine) -> None:
    """From a plain container on the same bridge, most attempts succeed. So the attempts prove something."""
    network, gateway, _ = engine.network(min(service.settle(at_target=False)))
    with listeners() as host:
        targets = {"host": gateway, "port": host.port, "abstract": "nobody", "own": contract.PORTS}
        code = ESCAPE.replace("json.load(sys.stdin)", repr(targets))
        found = json.loads(engine.plain_python(code, network, user="50000:50000", cap_drop=["ALL"]))
    reached = {attempt["name"] for attempt in found if attempt["ended"].startswith("reached")}
    assert len(reached) >= 10, found


@pytest.mark.parametrize("way", WAYS_OUT)
def test_every_way_out_of_the_network_is_closed(way: str, escapes: dict[str, dict[str, Any]]) -> None:
    """Each attempt fails within a second."""
    assert not escapes[way]["ended"].startswith("reached"), escapes[way]
    assert escapes[way]["ended"] != "TimeoutError", escapes[way]


def test_every_attempt_is_asserted(escapes: dict[str, dict[str, Any]]) -> None:
    """The outcome of every attempt is asserted."""
    assert set(escapes) == set(WAYS_OUT)


def test_code_cannot_reach_the_services_own_port(start_service: StartService, engine: Engine) -> None:
    """A plain container reaches the service, which listens on every address. Code in a kernel does not."""
    service = start_service(HOST="0.0.0.0", POOL_SIZE=1)
    port = int(service.base_url.rpartition(":")[2])
    network, gateway, _ = engine.network(min(service.settle(at_target=False)))
    plain = f"import socket; socket.create_connection(({gateway!r}, {port}), timeout=3); print('reached')"
    assert engine.plain_python(plain, network) == "reached\n"
    targets = [(address, port) for address in sorted(own_addresses() | {gateway})]
    result = service.api.run(CONNECT_TO_ALL, stdin=json.dumps(targets), timeout_ms=10_000)
    ended = json.loads(result["stdout"])
    assert len(ended) == len(targets)
    assert set(ended.values()) == {"ConnectionRefusedError"}, ended


def test_code_cannot_reach_other_kernels(service: Service, engine: Engine) -> None:
    """Other kernels cannot be reached at their own address or their published ports. The test itself can."""
    kernels = sorted(service.settle(at_target=False))
    assert len(kernels) >= 2
    targets: list[tuple[str, int]] = []
    for container_id in kernels:
        _, gateway, address = engine.network(container_id)
        for port, (host, published) in engine.reached_at(container_id).items():
            socket.create_connection((host, published), timeout=3).close()
            targets += {(address, port), (address if host == address else gateway, published)}
    result = service.api.run(
        "import socket; print(socket.gethostbyname(socket.gethostname()))\n" + CONNECT_TO_ALL,
        stdin=json.dumps(targets),
        timeout_ms=30_000,
    )
    own, found = result["stdout"].splitlines()
    others = {name: ended for name, ended in json.loads(found).items() if not name.startswith(f"{own}:")}
    assert len(others) == len(targets) - len(contract.PORTS)
    assert "reached" not in others.values(), others
