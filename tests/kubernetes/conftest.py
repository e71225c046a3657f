"""Services whose kernels are pods."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.conftest import GENEROUS, LIGHT
from tests.support.chart import Chart
from tests.support.cluster import PodEngine
from tests.support.engine import EngineMissing
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
