"""The kernel image: checked at the start, pulled, and replaced under a running service."""

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kernel_image import contract
from tests.conftest import LIGHT, StartService, serving
from tests.faults.conftest import refused
from tests.support import images
from tests.support.engine import IMAGE, Engine
from tests.support.process import Service
from tests.support.session import open_session

pytestmark = pytest.mark.timeout(120)

NOTICE_SECONDS = 60.0


@pytest.fixture(scope="module")
def tag() -> Iterator[str]:
    """Return a name for images of these tests. At the end no image has it."""
    name = f"code-interpreter-tests:{uuid.uuid4().hex[:12]}"
    yield name
    images.remove(name)


@pytest.fixture(scope="module")
def first(tag: str) -> str:
    """Return the id of the first image with the name."""
    return images.derive(tag)


@pytest.fixture(scope="module")
def followed(open_service: Callable[..., Service], tag: str, first: str) -> Iterator[Service]:
    """Start a service on that image."""
    yield from serving(open_service, **LIGHT, POOL_SIZE=1, PYTHON_EXECUTOR_DOCKER_IMAGE=tag)


def wait_until(condition: Callable[[], object], service: Service) -> None:
    """Poll until `seen` returns something true."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, service.log_tail()
        time.sleep(0.2)


def image_of(service: Service) -> dict[str, Any]:
    """Return what `/ready` reports about the image."""
    body = service.api.http.get("/ready").json()
    image: dict[str, Any] = body.get("image") or {"id": None, "warnings": [body["detail"]]}
    return image


def launched_from(service: Service) -> set[str]:
    """Return the ids of the images of its containers."""
    return {container["Image"] for container in service.engine.inspected(service.instance_id)}


def test_image_of_this_version_is_shown_without_a_warning(service: Service) -> None:
    """`/ready` shows its name, id, version and digest."""
    image = image_of(service)
    labels = images.labels_of(IMAGE)
    assert (image["name"], image["warnings"]) == (IMAGE, [])
    assert (image["version"], image["digest"]) == (
        labels[contract.VERSION_LABEL],
        labels[contract.DIGEST_LABEL],
    )


def test_an_image_that_was_replaced_is_taken_up(followed: Service, tag: str, first: str) -> None:
    """New kernels use it, ready ones are replaced, sessions stay. The log and `/ready` say what differs."""
    assert launched_from(followed) == {image_of(followed)["id"]} == {first}
    session = open_session(followed)
    session.run("marker = 'here'")
    second = images.derive(tag, {contract.DIGEST_LABEL: "0123", contract.VERSION_LABEL: "0.0.1"})
    wait_until(lambda: image_of(followed)["id"] == second, followed)
    wait_until(lambda: launched_from(followed) == {first, second}, followed)
    assert followed.api.run("print(6 * 7)")["stdout"] == "42\n"
    assert session.printed("marker") == "'here'"
    log = followed.log_path.read_text()
    assert f"{second}, until now {first}" in log
    digest, version = image_of(followed)["warnings"]
    assert "(0123)" in digest and "version 0.0.1" in version
    session.delete()
    wait_until(lambda: launched_from(followed) == {second}, followed)


def test_a_replacement_that_cannot_be_used_is_refused(followed: Service, tag: str) -> None:
    """An image with another contract, or that fails the self-test, is not used. `/ready` has the reason."""
    before = image_of(followed)["id"]
    other = images.derive(tag, {contract.CONTRACT_LABEL: "99"})
    wait_until(lambda: "contract 99" in image_of(followed)["warnings"][-1], followed)
    with followed.engine.changed_image(
        "confinement/seccomp.py", "    header = _Filter(", "    return\n    header = _Filter("
    ) as weakened:
        images.docker("tag", weakened, tag)
        wait_until(lambda: "self-test failed" in image_of(followed)["warnings"][-1], followed)
        assert "\n" not in image_of(followed)["warnings"][-1]
        assert followed.api.run("print(6 * 7)")["stdout"] == "42\n"
        followed.settle(at_target=False)
        assert launched_from(followed) == {before} == {image_of(followed)["id"]}
    images.remove(other)


def test_image_that_lost_its_name_is_still_used_with_a_warning(followed: Service, tag: str) -> None:
    """The warning ends when the image gets its name back."""
    before = image_of(followed)["id"]
    images.remove(tag)
    wait_until(lambda: "its name is gone" in image_of(followed)["warnings"][-1], followed)
    assert followed.api.run("print(6 * 7)")["stdout"] == "42\n"
    images.docker("tag", before, tag)
    wait_until(lambda: "name" not in image_of(followed)["warnings"][-1], followed)
    assert "is there again" in followed.log_tail()


def test_an_image_that_is_removed_is_waited_for(start_service: StartService) -> None:
    """The service is not ready, and says what to do. It becomes ready when an image has the name again."""
    tag = f"code-interpreter-tests:{uuid.uuid4().hex[:12]}"
    images.derive(tag)
    service = start_service(POOL_SIZE=0, PYTHON_EXECUTOR_DOCKER_IMAGE=tag)
    assert service.engine.wait_for_none(service.instance_id, 10) == set()
    images.remove(tag)
    wait_until(lambda: service.api.http.get("/ready").status_code == 503, service)
    # Callers that may not see the report get no name of an image.
    from_proxy = service.api.http.get("/ready", headers={"X-Forwarded-For": "192.0.2.1"})
    assert from_proxy.status_code == 503
    assert set(from_proxy.json()) == {"detail", "code"} and tag not in from_proxy.text
    assert (
        f"the kernel image {tag!r} is not there; `make image`"
        in service.api.http.get("/ready").json()["detail"]
    )
    assert service.api.http.get("/health").json()["status"] == "error"
    images.derive(tag)
    wait_until(lambda: service.api.http.get("/ready").status_code == 200, service)
    assert service.api.run("print(6 * 7)")["stdout"] == "42\n"
    service.finish()
    images.remove(tag)


def test_start_with_an_image_that_cannot_work_says_why(engine: Engine, tag: str, tmp_path: Path) -> None:
    """The image has another contract, is not a kernel image, is missing, or its registry does not answer."""
    name = f"{tag}-unfit"
    images.derive(name, {contract.CONTRACT_LABEL: "99"})
    log = refused(tmp_path, PYTHON_EXECUTOR_DOCKER_IMAGE=name)
    assert f"the kernel image {name!r} cannot be used: it keeps contract 99" in log
    images.remove(name)
    with (tmp_path / "empty.tar").open("wb") as empty:
        empty.write(b"\0" * 10240)
    images.docker("import", str(tmp_path / "empty.tar"), name)
    assert "it is not a kernel image" in refused(tmp_path, PYTHON_EXECUTOR_DOCKER_IMAGE=name)
    images.remove(name)
    assert f"{name!r} is not there; `make image` builds it" in refused(
        tmp_path, PYTHON_EXECUTOR_DOCKER_IMAGE=name
    )
    nowhere = "127.0.0.1:1/kernel:latest"
    log = refused(tmp_path, PYTHON_EXECUTOR_DOCKER_IMAGE=nowhere)
    assert f"{nowhere!r} is not there; it could not be pulled: " in log and "connection refused" in log
    log = refused(tmp_path, PYTHON_EXECUTOR_DOCKER_IMAGE=nowhere, IMAGE_PULL="never")
    assert "`make image` builds it" in log and "pulled" not in log


def pulls(open_service: Callable[..., Service], folder: Path) -> None:
    """Do what `test_an_image_is_pulled_and_pulled_again_when_it_is_lost` describes."""
    with images.registry(folder) as registry:
        name = f"{registry}/kernel:small"
        images.make_small(name)
        images.docker("push", "--quiet", name)
        images.remove(name)
        service = open_service(
            **LIGHT, CONTAINER_REUSE="never", POOL_SIZE=0, PYTHON_EXECUTOR_DOCKER_IMAGE=name
        )
        assert service.api.run("print(6 * 7)")["stdout"] == "42\n"
        log = service.log_path.read_text()
        assert f"pulling the kernel image {name}" in log and f"{name} is pulled, after" in log
        assert image_of(service)["warnings"] == []
        assert service.engine.wait_for_none(service.instance_id, 10) == set()
        images.remove(name)
        wait_until(lambda: service.log_path.read_text().count(f"{name} is pulled, after") == 2, service)
        assert service.api.run("print(6 * 7)")["stdout"] == "42\n"
        service.finish()
        unknown = f"{registry}/kernel:none"
        log = refused(folder / "storage", PYTHON_EXECUTOR_DOCKER_IMAGE=unknown)
        assert f"{unknown!r} is not there; it could not be pulled: " in log and "manifest unknown" in log
        images.remove(name)
        image_id = images.derive(name)
        service = open_service(**LIGHT, POOL_SIZE=0, PYTHON_EXECUTOR_DOCKER_IMAGE=name, IMAGE_PULL="always")
        assert image_of(service)["id"] != image_id
        service.finish()
        images.remove(name, image_id)


@pytest.fixture(scope="module", autouse=True)
def pulled(
    open_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[None]]:
    """Run the pulls beside the other tests, since they mostly wait for bytes."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit(pulls, open_service, tmp_path_factory.mktemp("pulls"))


def test_local_image_is_used_if_the_registry_does_not_answer(
    start_service: StartService,
) -> None:
    """The image is used even with `IMAGE_PULL=always`. The log reports that it was not pulled."""
    absent = "127.0.0.1:1/kernel:latest"
    images.docker("tag", IMAGE, absent)
    try:
        service = start_service(POOL_SIZE=0, PYTHON_EXECUTOR_DOCKER_IMAGE=absent, IMAGE_PULL="always")
        assert "could not be pulled" in service.log_path.read_text()
        assert service.api.run("print(6 * 7)")["stdout"] == "42\n"
    finally:
        subprocess.run(["docker", "image", "rm", absent], check=True, capture_output=True)


def test_an_image_is_pulled_and_pulled_again_when_it_is_lost(pulled: Future[None]) -> None:
    """The service pulls at the start, after the image was removed, and with `always` despite a local one."""
    pulled.result(timeout=110)
