"""Services whose kernels are pods, beside the other tests' services."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import GENEROUS, LIGHT, OPEN_SERVICES
from tests.support.chart import Chart
from tests.support.cluster import PodEngine
from tests.support.engine import IMAGE, EngineMissing
from tests.support.process import INHERITED, ROOT, Service, free_port


@pytest.fixture(scope="session")
def pods() -> Iterator[PodEngine]:
    """The cluster, with a namespace for these tests; without one they are skipped."""
    try:
        engine = PodEngine()
    except EngineMissing as missing:
        pytest.skip(str(missing))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def start_on(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[..., Service]:
    """Start a service on a cluster, its log shown under failures."""

    def start(engine: PodEngine, **settings: Any) -> Service:
        environment = {name: str(value) for name, value in (LIGHT | settings).items()}
        service = Service(engine, tmp_path_factory.mktemp("service"), **environment)
        request.config.stash[OPEN_SERVICES].append(service)
        return service

    return start


@pytest.fixture(scope="session")
def on_pods(pods: PodEngine, start_on: Callable[..., Service]) -> Iterator[Service]:
    """The service that most tests here share."""
    service = start_on(pods, **GENEROUS, PIDS_LIMIT=64)
    yield service
    service.finish()


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The Helm chart."""
    return Chart(tmp_path_factory.mktemp("renderer"))


@dataclass(frozen=True)
class Refusal:
    """How a service ended that could not start."""

    exit_code: int
    log: str


@pytest.fixture(scope="session")
def refused(tmp_path_factory: pytest.TempPathFactory, pods: PodEngine) -> Callable[..., Refusal]:
    """Start a service that can't run kernels, and wait for its end."""

    def start(**settings: Any) -> Refusal:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
            "HOST": "127.0.0.1",
            "PORT": str(free_port()),
            "FILE_STORAGE_DIR": str(tmp_path_factory.mktemp("refusing")),
            "PYTHON_EXECUTOR_DOCKER_IMAGE": IMAGE,
            "POOL_SIZE": "1",
            **pods.settings,
            **{name: str(value) for name, value in (LIGHT | settings).items()},
        }
        ended = subprocess.run(
            [sys.executable, "-m", "service.server"],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )
        return Refusal(ended.returncode, ended.stdout)

    return start
