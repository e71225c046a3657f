"""A service on one machine and its engine on another: connected by TCP with TLS.

The other machine is a container with an engine of its own, which also listens with TLS.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import analyse, finished, wait_for
from tests.deploy.container import LIGHT, PRIVILEGED, ServiceContainer
from tests.support.engine import IMAGE, Engine
from tests.support.process import REGISTRY_KEY, ROOT, Service
from tests.support.session import new_session
from tests.support.traffic import ALL, readable_parts

pytestmark = pytest.mark.timeout(150)

PORT = 2376
LISTENING = f"""
from deploy import nested
nested._ENGINE += ("--host=tcp://0.0.0.0:{PORT}", "--tlsverify", "--tlscacert=/certs/ca.pem",
                   "--tlscert=/certs/server.pem", "--tlskey=/certs/server-key.pem")
raise SystemExit(nested.run(["sleep", "infinity"]))
"""
"""Runs the engine of deploy/nested.py, which also listens on TCP, without a service."""
COUNT = """
import http.client, json, socket
engine = http.client.HTTPConnection("localhost")
engine.sock = socket.socket(socket.AF_UNIX)
engine.sock.connect("/run/code-interpreter/docker.sock")
engine.request("GET", "/containers/json?all=1")
print(json.dumps([container["Ports"] for container in json.load(engine.getresponse())]))
"""


@dataclass(frozen=True)
class RemoteEngine:
    """An engine on another machine, and the folder with the keys for it."""

    container: ServiceContainer
    address: str
    keys: Path

    def containers(self) -> list[list[dict[str, str]]]:
        """Return the published ports of each of its containers."""
        found: list[list[dict[str, str]]] = json.loads(self.container.run("python", "-I", "-c", COUNT))
        return found


def openssl(*arguments: str, folder: Path) -> None:
    """Run the `openssl` command."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_keys(folder: Path, address: str) -> None:
    """Create an authority, a server's certificate for an address, and a client's certificate."""
    subject = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*subject, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=authority", folder=folder)
    for name, extension in (
        ("server", f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        (folder / f"{name}.ext").write_text(extension)
        request = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
        openssl(*request, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", folder=folder)
        sign = ("x509", "-req", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial")
        files = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", f"{name}.ext")
        openssl(*sign, *files, folder=folder)
    (folder / "client.pem").rename(folder / "cert.pem")
    (folder / "client-key.pem").rename(folder / "key.pem")


@pytest.fixture(scope="module")
def remote(preloaded_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteEngine]:
    """Start an engine that listens with TLS and has the kernel image. A container stands for its machine."""
    keys = tmp_path_factory.mktemp("certs")
    # The certificate names the address, which is known once the container runs.
    wait = "import os, time\nwhile not os.path.exists('/certs/key.pem'): time.sleep(0.1)\n"
    container = ServiceContainer(
        *PRIVILEGED,
        *("--volume", f"{keys}:/certs:ro", "--entrypoint", "python"),
        *(preloaded_image, "-I", "-c", wait + LISTENING),
        wait=False,
    )
    with finished(container):
        address = container.inspect()["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        make_keys(keys, address)
        wait_for("was mounted in", container)
        yield RemoteEngine(container, address, keys)


@pytest.fixture(scope="module")
def remote_service(remote: RemoteEngine, service_image: str) -> Iterator[ServiceContainer]:
    """Start the service in a container on this machine, with its kernels on the other machine."""
    container = ServiceContainer(
        *("--volume", f"{remote.keys}:/certs:ro", "--env", "DOCKER_CERT_PATH=/certs"),
        *("--env", "DOCKER_TLS_VERIFY=1", "--env", f"DOCKER_HOST=tcp://{remote.address}:{PORT}"),
        *("--publish", "127.0.0.1::8000", service_image),
        wait=False,
    )
    with finished(container):
        binding = container.inspect()["NetworkSettings"]["Ports"]["8000/tcp"][0]
        container.at(f"http://127.0.0.1:{binding['HostPort']}")
        container.wait_until_ready()
        yield container


def test_kernels_run_on_the_engines_machine(
    remote_service: ServiceContainer, remote: RemoteEngine, tmp_path: Path
) -> None:
    """The mode is logged, ports are published on the address in DOCKER_HOST, and the example runs."""
    mode = f"mode: remote, since the engine is at tcp://{remote.address}:{PORT} (DOCKER_HOST says so)"
    assert f"{mode}; published ports are reached at {remote.address}" in remote_service.log()
    published = {port["IP"] for ports in remote.containers() for port in ports}
    assert published == {remote.address}
    assert "cultivar recognised: 98.3%" in analyse(remote_service, tmp_path)


def test_self_test_tries_the_services_machine(remote_service: ServiceContainer, remote: RemoteEngine) -> None:
    """All isolation checks hold. They tried the address of the service and that of the engine."""
    report = {check["name"]: check for check in remote_service.wait_until_ready()["self_test"]}
    assert all(check["ok"] for check in report.values()), report
    own = remote_service.inspect()["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert f"tcp {own}:8000" in report["service's port"]["detail"]
    assert remote.address in report["other kernels"]["detail"]


def test_the_service_has_keys_of_its_own_and_is_not_root(remote_service: ServiceContainer) -> None:
    """At the start, keys that only root can read are copied for the service's user."""
    status = remote_service.status_of(1)
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Groups"] == ""
    listed = remote_service.run("ls", "-ln", "/run/code-interpreter-certificates").splitlines()[1:]
    assert {line.split()[-1] for line in listed} == {"ca.pem", "cert.pem", "key.pem"}
    assert {(line.split()[0], line.split()[2]) for line in listed} == {("-r--------", "10001")}


def test_stopped_service_leaves_no_kernels_on_the_engine(
    remote_service: ServiceContainer, remote: RemoteEngine
) -> None:
    """After SIGTERM its containers on the other machine are gone."""
    assert remote.containers()
    assert remote_service.stop() == 0
    assert remote.containers() == []


def test_kernel_address_can_be_set(remote: RemoteEngine, service_image: str) -> None:
    """The service connects to `KERNEL_ADDRESS`, and publishes on `KERNEL_PUBLISH_ADDRESS`."""
    container = ServiceContainer(
        *("--volume", f"{remote.keys}:/certs:ro", "--env", "DOCKER_CERT_PATH=/certs", *LIGHT),
        *("--env", "DOCKER_TLS_VERIFY=1", "--env", f"DOCKER_HOST=tcp://{remote.address}:{PORT}"),
        *("--env", f"KERNEL_ADDRESS={remote.address}", "--env", "KERNEL_PUBLISH_ADDRESS=0.0.0.0"),
        *("--env", "POOL_SIZE=1", service_image),
        wait=False,
    )
    with finished(container):
        address = container.inspect()["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        container.at(f"http://{address}:8000")
        container.wait_until_ready()
        assert "KERNEL_ADDRESS is set; published ports are reached at" in container.log()
        assert {port["IP"] for ports in remote.containers() for port in ports} == {"0.0.0.0"}
        assert container.api.run("print(6 * 7)")["stdout"] == "42\n"


def test_service_without_keys_ends_with_one_sentence(remote: RemoteEngine, tmp_path: Path) -> None:
    """A service on this machine has no client certificate, and exits with an error."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "DOCKER_HOST": f"tcp://{remote.address}:{PORT}",
        "FILE_STORAGE_DIR": str(tmp_path / "storage"),
        "REGISTRY_KEY": REGISTRY_KEY,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "PYTHON_EXECUTOR_DOCKER_IMAGE": IMAGE,
        "INSTANCE_ID": f"keyless-{uuid.uuid4().hex}",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 3
    assert "the container engine does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"https://{remote.address}:{PORT}/version", timeout=5)


@pytest.fixture(scope="module")
def local_service(remote: RemoteEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the service on this machine itself, with its kernels on the other machine."""
    settings = {
        "KERNEL_PRELOAD": "none",
        "POOL_SIZE": "1",
        "MAX_CONTAINERS": "2",
        "CONTAINER_REUSE": "tenant",
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            # If these are set, requests ignores the authority that its session trusts.
            patch.delenv(variable, raising=False)
        engine = Engine(f"tcp://{remote.address}:{PORT}", remote.keys)
        service = Service(engine, tmp_path_factory.mktemp("near"), **settings)
        yield service
        service.finish()
        engine.close()


def test_nothing_can_be_read_on_the_way_to_a_remote_engine(local_service: Service) -> None:
    """Code, output, displays, input and the supervisor's token do not appear in the traffic."""
    assert ", by TLS" in local_service.log_path.read_text()
    assert readable_parts(local_service) == set()


def test_resumed_sessions_and_reused_containers_keep_tls(local_service: Service) -> None:
    """A container serves a second call, and a session survives a kill of its service."""
    before = local_service.settle()
    assert [local_service.api.run("print(1)")["stdout"] for _ in range(2)] == ["1\n"] * 2
    assert before <= local_service.engine.kernels(local_service.instance_id)
    with new_session(local_service) as session:
        session.run("marker = 'here'")
        local_service.crash()
        local_service.restart()
        assert session.printed("marker") == "'here'"


def test_traffic_without_encryption_can_be_read(local_service: Service) -> None:
    """`KERNEL_ENCRYPTION=never` exposes code and outputs in the traffic. A session that used TLS is lost."""
    with new_session(local_service) as session:
        local_service.stop()
        local_service.restart(KERNEL_ENCRYPTION="never")
        assert readable_parts(local_service) == ALL
        assert session.wait_until_ended(30)["reason"] == "lost"
