"""Services whose kernels are pods: outside the cluster, and inside it, as the chart deploys them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.conftest import GENEROUS, LIGHT
from tests.deploy.container import SERVICE_IMAGE
from tests.kubernetes.deployed import LEASE_SEC, SETTINGS, gateway_address
from tests.support.api import Api
from tests.support.chart import Chart
from tests.support.cluster import PodEngine
from tests.support.deployment import Deployment, Replica, balanced
from tests.support.engine import EngineMissing
from tests.support.object_storage import ObjectStorageServer
from tests.support.postgres import Postgres
from tests.support.process import Service, serve_to_the_end


@pytest.fixture(scope="session")
def pods() -> Iterator[PodEngine]:
    """Return the cluster, with a namespace for these tests. Without a cluster the tests are skipped."""
    try:
        engine = PodEngine()
    except EngineMissing as missing:
        pytest.skip(str(missing))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def start_on(open_on: Callable[..., Service]) -> Callable[..., Service]:
    """Return a function that starts a service on a cluster, and shows its log if the test fails."""
    return partial(open_on, **LIGHT)


@pytest.fixture(scope="session")
def on_pods(pods: PodEngine, start_on: Callable[..., Service]) -> Iterator[Service]:
    """Start the service that most of these tests share."""
    service = start_on(pods, **GENEROUS, PIDS_LIMIT=64)
    yield service
    service.finish()


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """Return the Helm chart."""
    return Chart(tmp_path_factory.mktemp("renderer"))


@dataclass(frozen=True)
class Refusal:
    """How a service ended that could not start."""

    exit_code: int
    log: str


@pytest.fixture(scope="session")
def refused(tmp_path_factory: pytest.TempPathFactory, pods: PodEngine) -> Callable[..., Refusal]:
    """Return a function that starts a service that cannot run kernels, and waits for its end."""

    def start(**settings: Any) -> Refusal:
        given = pods.settings | {name: str(value) for name, value in (LIGHT | settings).items()}
        ended = serve_to_the_end(tmp_path_factory.mktemp("refusing"), "service", **given)
        return Refusal(ended.returncode, ended.stdout)

    return start


@pytest.fixture(scope="module")
def shared_state() -> Iterator[dict[str, str]]:
    """Return the settings of a database and an object storage that pods can reach."""
    postgres, storage = Postgres(gateway_address()), ObjectStorageServer(gateway_address())
    yield {"DATABASE_URL": postgres.new(), **storage.settings(storage.new())}
    storage.close()
    postgres.close()


@pytest.fixture(scope="module")
def deployment(pods: PodEngine, chart: Chart, shared_state: dict[str, str]) -> Iterator[Deployment]:
    """Deploy two replicas."""
    with pods.cluster.namespace() as namespace:
        made = Deployment(
            pods.cluster,
            namespace,
            chart,
            SERVICE_IMAGE,
            replicas=2,
            persistence={"enabled": False},
            drainSeconds=2,
            env=SETTINGS | shared_state | {"REPLICA_LEASE_SEC": LEASE_SEC},
        )
        yield made
        made.delete()


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> Iterator[Api]:
    """Return a client that uses all addresses of the service."""
    api = balanced(deployment)
    yield api
    api.close()


@pytest.fixture
def replicas(deployment: Deployment) -> Iterator[tuple[Replica, Replica]]:
    """Wait until both replicas are ready, and return them."""
    deployment.settle()
    first, second = deployment.replicas()
    yield first, second
    for replica in (first, second):
        replica.api.close()
