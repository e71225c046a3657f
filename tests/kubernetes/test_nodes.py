"""A cluster of two nodes, one of which fails."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.conftest import canary
from tests.faults.second_engine import can_run_engines
from tests.support.cluster import FIRST, PodEngine
from tests.support.process import Service
from tests.support.second_node import NAME, SecondNode
from tests.support.session import Session, open_session

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def second_node(pods: PodEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondNode]:
    """Add a second node to the cluster."""
    can_run_engines()
    node = SecondNode(pods.cluster, tmp_path_factory.mktemp("node2"))
    yield node
    node.close()


def node_of(session: Session, pods: PodEngine) -> str:
    """Return the node of a session's pod."""
    address = session.printed("import socket; print(socket.gethostbyname(socket.gethostname()))")
    (name,) = {
        pod["spec"]["nodeName"]
        for pod in pods.cluster.pods(pods.namespace)
        if pod["status"].get("podIP") == address
    }
    return str(name)


def test_loss_of_a_node_ends_its_sessions_only(
    pods: PodEngine, second_node: SecondNode, start_on: Callable[..., Service]
) -> None:
    """Sessions of the lost node end as `lost`. The other node's sessions continue, and it serves calls."""
    pods.cluster.cordon(NAME)
    service = start_on(pods, POOL_SIZE=1, KUBERNETES_START_TIMEOUT_SEC=20)
    service.settle()
    pods.cluster.cordon(FIRST)
    try:
        pods.cluster.cordon(NAME, cordoned=False)
        on_first, on_second = open_session(service), open_session(service)
    finally:
        pods.cluster.cordon(FIRST, cordoned=False)
    on_first.run("x = 41")
    assert (node_of(on_first, pods), node_of(on_second, pods)) == (FIRST, NAME)

    second_node.die()
    began = time.monotonic()
    while time.monotonic() - began < 5:
        assert on_first.printed("x += 1; print(x > 41)") == "True"
    assert on_second.wait_until_ended(90)["reason"] == "lost"
    assert on_second.execute("x").status_code == 410
    canary(service)
    assert on_first.printed("print(x > 41)") == "True"
    on_first.delete()
    pods.cluster.wait_until(lambda: service.pool()["ready"] == service.pool()["target"], 90)
    service.finish()
