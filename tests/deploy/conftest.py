"""Fixtures and helpers: the images, the cleanup of containers, and the README's example."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.container import PRELOADED_IMAGE, SERVICE_IMAGE, ServiceContainer, docker
from tests.support.engine import Engine
from tests.test_examples import run_example

GONE_SECONDS = 20.0


def _has(image: str) -> str:
    if docker("image", "inspect", image, check=False).returncode:
        pytest.fail(
            f"These tests need the image {image}: run `make test`, or `make service-image preloaded`."
        )
    return image


@pytest.fixture(scope="session")
def service_image() -> str:
    """Return the service's image, with an engine inside."""
    return _has(SERVICE_IMAGE)


@pytest.fixture(scope="session")
def preloaded_image() -> str:
    """Return the service's image with an engine and the kernel image inside."""
    return _has(PRELOADED_IMAGE)


@contextmanager
def finished(container: ServiceContainer, engine: Engine | None = None) -> Iterator[ServiceContainer]:
    """Remove the container when the block ends, and check that it left no kernels on the machine's engine."""
    try:
        yield container
    finally:
        if container.state["Running"]:
            container.stop()
        container.remove()
        if engine is not None:
            left = engine.wait_for_none(container.instance_id, GONE_SECONDS)
            for container_id in left:
                engine.remove(container_id)
            assert not left, "kernels were left behind"


def analyse(container: ServiceContainer, folder: Path) -> str:
    """Run the README's example, and return what it prints."""
    ended = run_example("analyse.py", container.base_url, folder)
    assert (ended.returncode, ended.stderr) == (0, ""), container.log()
    assert {path.name for path in (folder / "out").iterdir()} == {"wine.png", "wine.xlsx"}
    return ended.stdout


def wait_for(text: str, container: ServiceContainer, seconds: float = 30.0) -> str:
    """Wait until the container has logged a text, and return its whole log."""
    deadline = time.monotonic() + seconds
    while text not in (log := container.log()):
        assert time.monotonic() < deadline, f"the log does not contain {text!r}:\n{log}"
        time.sleep(0.1)
    return log
