"""docker-compose.yml, started with the commands of the README."""

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.deploy.container import SERVICE_IMAGE, ServiceContainer, docker
from tests.support.engine import IMAGE, Engine
from tests.support.process import ROOT, free_port
from tests.support.settings import FIELDS

pytestmark = pytest.mark.timeout(150)

Compose = Callable[..., str]


@pytest.fixture(scope="module")
def command() -> list[str]:
    """Return the command of Compose, in either of its forms."""
    if docker("compose", "version", check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("there is no Docker Compose here")


@pytest.fixture(scope="module")
def compose(
    command: list[str], service_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    """Return a function that runs Compose on a project of the tests. Remove the project at the end."""
    project = f"deployed{uuid.uuid4().hex[:8]}"
    # The tests choose images and labels; everything else comes from the file.
    extra = tmp_path_factory.mktemp("compose") / "tests.yml"
    variables = {"INSTANCE_ID": project, "KERNEL_PRELOAD": "none", "POOL_SIZE": "1"}
    described = {"services": {"code-interpreter": {"image": SERVICE_IMAGE, "environment": variables}}}
    extra.write_text(json.dumps(described))
    files = ("-f", str(ROOT / "docker-compose.yml"), "-f", str(extra))
    environment = os.environ | {"PUBLISH_PORT": str(free_port()), "PYTHON_EXECUTOR_DOCKER_IMAGE": IMAGE}

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [*command, *files, "-p", project, *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    yield run
    run("down", "--volumes", "--timeout", "30")


def test_file_is_valid(command: list[str]) -> None:
    """The file is valid without any settings."""
    ended = subprocess.run([*command, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_file_passes_on_every_setting() -> None:
    """A setting that the file does not name would have no effect. The file itself sets address and engine."""
    named = set(re.findall("^ {6}([A-Z_]+):", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE))
    fixed = {"HOST", "PORT", "FILE_STORAGE_DIR", "REGISTRY_KEY_FILE", "XDG_RUNTIME_DIR"}
    fixed |= {"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"}
    fixed |= {"EXECUTOR_BACKEND", "KUBECONFIG"}
    settings = {name.upper() for name in FIELDS if not name.startswith("kubernetes_")}
    assert settings - fixed <= named


def test_files_outlive_the_containers(compose: Compose, engine: Engine) -> None:
    """A file is still there after `down` and `up`. Kernels are reached on the project's network."""

    def up() -> ServiceContainer:
        compose("up", "-d", "--no-build")
        return ServiceContainer.running(compose("ps", "-q").strip())

    first = up()
    first.wait_until_ready()
    assert "mode: Docker-out-of-Docker" in first.log()
    assert "_default; published ports are reached at" in first.log()
    file_id = first.api.upload(b"kept")
    assert first.api.run("print(6 * 7)")["stdout"] == "42\n"
    instance_id = str(first.wait_until_ready()["instance_id"])
    first.api.close()
    compose("down", "--timeout", "30")
    assert engine.wait_for_none(instance_id, 10) == set()

    second = up()
    second.wait_until_ready()
    assert second.api.download(file_id) == b"kept"
    second.api.close()
