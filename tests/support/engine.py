"""The Docker engine, seen from outside. Only this module of the tests imports docker."""

import http.client
import io
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors

from kernel_image import contract

IMAGE = os.environ.get("PYTHON_EXECUTOR_DOCKER_IMAGE") or "code-interpreter-kernel:latest"
KERNEL_IMAGE = Path(__file__).resolve().parents[2] / "kernel_image"
TEST_LABEL = "code-interpreter.tests"


class EngineMissing(Exception):
    """No engine answers, or it has no kernel image; the text says what to do."""


@dataclass(frozen=True)
class Peer:
    """A plain container beside the kernels, without their firewall."""

    id: str
    address: str


class Engine:
    """The containers of one service instance, which tests inspect and remove."""

    def __init__(self, url: str | None = None, keys: Path | None = None) -> None:
        """Connect to the engine at `url`, or to that of the environment. `keys` is a folder with TLS keys."""
        self._environment = {"DOCKER_HOST": url} if url else {}
        if keys is not None:
            self._environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(keys)}
        try:
            self._docker = docker.from_env(environment=self._environment or None)
            self._docker.ping()
        except docker.errors.DockerException as error:
            raise EngineMissing(
                "These tests need a Docker engine and none answers "
                f"({error}). Start one, or run `make test`, which does."
            ) from error
        try:
            self._docker.images.get(IMAGE)
        except docker.errors.ImageNotFound as error:
            self._docker.close()
            raise EngineMissing(
                f"These tests need the kernel image {IMAGE} and the engine has none of that name. "
                "Run `make test`, which builds it."
            ) from error

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings with which a service uses this engine."""
        return self._environment

    def close(self) -> None:
        """Close the connections."""
        self._docker.close()

    def kernels(self, instance_id: str) -> set[str]:
        """Return the ids of all kernel containers of the instance, in any state."""
        listed = self._docker.api.containers(
            all=True,
            filters={
                "label": [
                    f"{contract.INSTANCE_LABEL}={instance_id}",
                    f"{contract.ROLE_LABEL}={contract.ROLE}",
                ]
            },
        )
        return {item["Id"] for item in listed}

    def owned(self, instance_id: str) -> set[str]:
        """Return the ids of all containers with the instance's label, in any role."""
        listed = self._docker.api.containers(
            all=True, filters={"label": f"{contract.INSTANCE_LABEL}={instance_id}"}
        )
        return {item["Id"] for item in listed}

    def networks(self, instance_id: str) -> set[str]:
        """Return the names of the networks with the instance's id in name or label.

        An engine has addresses for about thirty bridges, so a network left by each start would use them up.
        """
        return {
            network["Name"]
            for network in self._docker.api.networks()
            if instance_id in network["Name"] or instance_id in (network["Labels"] or {}).values()
        }

    def make_network(self, name: str) -> None:
        """Make a network of that name, even if one exists."""
        self._docker.api.create_network(name, check_duplicate=False)

    def remove_network(self, name: str) -> None:
        """Remove a network by its name."""
        self._docker.api.remove_network(name)

    def wait_for_none(self, instance_id: str, seconds: float) -> set[str]:
        """Wait until the instance owns no container; what is left when time is up."""
        deadline = time.monotonic() + seconds
        while (left := self.owned(instance_id)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def inspect(self, container_id: str) -> dict[str, Any]:
        """Return what `docker inspect` reports of one container."""
        found: dict[str, Any] = self._docker.api.inspect_container(container_id)
        return found

    def inspected(self, instance_id: str) -> list[dict[str, Any]]:
        """Return what `docker inspect` reports of the instance's containers, without those being removed."""
        found = []
        for container_id in self.kernels(instance_id):
            with suppress(docker.errors.NotFound):
                found.append(self.inspect(container_id))
        return [container for container in found if container["State"]["Running"]]

    def network(self, container_id: str) -> tuple[str, str, str]:
        """Return the container's network, the address of the gateway, and the address of the container."""
        networks = self.inspect(container_id)["NetworkSettings"]["Networks"]
        assert len(networks) == 1, f"a kernel belongs to one network, not {sorted(networks)}"
        ((name, settings),) = networks.items()
        return name, settings["Gateway"], settings["IPAddress"]

    def reached_at(self, container_id: str) -> dict[int, tuple[str, int]]:
        """Return the address at which this machine reaches each of the container's ports."""
        published = self.inspect(container_id)["NetworkSettings"]["Ports"]
        if not published:
            _, _, address = self.network(container_id)
            return {port: (address, port) for port in contract.PORTS}
        return {port: ("127.0.0.1", int(published[f"{port}/tcp"][0]["HostPort"])) for port in contract.PORTS}

    def supervisor(self, container_id: str) -> http.client.HTTPConnection:
        """Return a connection to the supervisor of a container, from outside."""
        host, port = self.reached_at(container_id)[contract.SUPERVISOR_PORT]
        return http.client.HTTPConnection(host, port, timeout=5)

    def bridge(self, network: str) -> str:
        """Return the name of the host's interface for a bridge network."""
        found = self._docker.api.inspect_network(network)
        options = found.get("Options") or {}
        return options.get("com.docker.network.bridge.name") or f"br-{found['Id'][:12]}"

    def remove(self, container_id: str) -> None:
        """Remove a container that may exist, as `docker rm -f` does."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self._docker.api.remove_container(container_id, force=True)
                return
            except docker.errors.APIError:
                if all(container_id != c["Id"] for c in self._docker.api.containers(all=True)):
                    return
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def plain_python(self, code: str, network: str = "bridge", **options: Any) -> str:
        """Run code in a plain container and return its output."""
        printed = self._docker.containers.run(
            IMAGE,
            ["-c", code],
            entrypoint=["python"],
            network=network,
            remove=True,
            labels={TEST_LABEL: "peer"},
            **options,
        )
        assert isinstance(printed, bytes)
        return printed.decode()

    @contextmanager
    def changed_image(self, file: str, old: str, new: str, tag: str | None = None) -> Iterator[str]:
        """Make a kernel image for the block, with one text in a file of `kernel_image/` replaced.

        Yields the image's tag, or its id without a tag.
        """
        source = (KERNEL_IMAGE / file).read_text()
        assert source.count(old) == 1, f"{old!r} must be in {file} exactly once"
        contents = {
            "Dockerfile": f"FROM {IMAGE}\nCOPY {file} /opt/code-interpreter/kernel_image/{file}\n",
            file: source.replace(old, new),
        }
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, text in contents.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime, member.mode = len(text.encode()), int(time.time()), 0o644
                archive.addfile(member, io.BytesIO(text.encode()))
        context.seek(0)
        image, _ = self._docker.images.build(fileobj=context, custom_context=True, forcerm=True, tag=tag)
        assert image.id is not None
        try:
            yield tag or image.id
        finally:
            self._docker.images.remove(image.id, force=True)

    @contextmanager
    def peer(self, code: str, network: str) -> Iterator[Peer]:
        """Run code in a plain container on a network during the block."""
        container = self._docker.containers.run(
            IMAGE,
            ["-c", code],
            entrypoint=["python"],
            network=network,
            detach=True,
            labels={TEST_LABEL: "peer"},
        )
        try:
            container.reload()
            assert container.id is not None
            (settings,) = container.attrs["NetworkSettings"]["Networks"].values()
            yield Peer(container.id, settings["IPAddress"])
        finally:
            container.remove(force=True)
