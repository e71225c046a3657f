"""The command `doctor`: which checks run, in which order, and which are left out if an earlier one fails."""

import asyncio
import sys
import uuid
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import service
from service.auth.errors import KeyFileInvalid
from service.auth.keyring import READ_BY_OTHERS, read_trusted_key_file
from service.database import connection as database
from service.database import migrations
from service.database.errors import MigrationFailed
from service.doctor import cluster as cluster_checks
from service.doctor import engine as engine_checks
from service.doctor import limits, machine
from service.doctor.finding import Finding, failed
from service.doctor.kernel import JudgeRoom, check_kernel
from service.doctor.report import as_json, table
from service.errors import SettingsInvalid, StartError
from service.files.open import open_storage
from service.operations.engine import open_cluster, open_docker
from service.operations.errors import CannotRunKernels
from service.private_paths.files import can_be_read_by_others
from service.private_paths.folders import check_private_folder
from service.private_paths.trust import NotPrivate
from service.settings import Settings, load_settings, unknown_variables
from service.telemetry.logs import configure_logging
from sessions.containers.engine import Engine
from sessions.containers.engine_facts import EngineFacts
from sessions.containers.image_check import own_digest
from sessions.containers.kubernetes.manifest import needs
from sessions.errors import SessionsError
from sessions.models import ContainerSpec

_BAD_SETTINGS = 2
_NOT_LOOKED_AT = "not looked at: "
_NO_DOCKER = "start it, allow this user to use its socket, or set DOCKER_HOST"
_NO_CLUSTER = "see KUBECONFIG and KUBERNETES_NAMESPACE, or run the doctor in the cluster"
_NO_CONTAINER = "see the engine's log, and whether `docker run --rm IMAGE python -V` works"
_NO_POD = "docs/kubernetes.md lists problems and their solutions"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print an object instead of a table")


def main(arguments: Namespace) -> int:
    """Run all checks. Returns the exit status: 0, 1 if a check fails, 2 if a setting is invalid."""
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        help_ = "docs/settings.md lists all settings"
        findings = [Finding("settings", "fail", problem, help_) for problem in error.problems]
        _print(findings, arguments)
        return _BAD_SETTINGS
    configure_logging("CRITICAL")
    findings = asyncio.run(Doctor(settings).check())
    _print(findings, arguments)
    return 1 if failed(findings) else 0


def _print(findings: Sequence[Finding], arguments: Namespace) -> None:
    sys.stdout.write(f"{as_json(findings) if arguments.json else table(findings)}\n")


class Doctor:
    """Runs the checks, and collects the findings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._findings: list[Finding] = []
        self._stopwatch = machine.Stopwatch()

    async def check(self) -> list[Finding]:
        """Run all checks. A check that needs something that is missing becomes a warning."""
        self._add(machine.judge_settings(unknown_variables()))
        self._add(self._keys())
        await self._step("the port", self._port)
        await self._step("the disk of the stored files", self._storage)
        await self._step("the registry", self._registry)
        await self._step("the container engine", self._engine)
        self._add(self._stopwatch.judge())
        return self._findings

    def _add(self, *findings: Finding) -> None:
        self._findings += findings

    async def _step(self, what: str, check: Callable[[], Awaitable[None]]) -> None:
        sys.stderr.write(f"looking at {what} ...\n")
        sys.stderr.flush()
        await check()

    def _keys(self) -> Finding:
        keys = self._settings.keys
        if keys.api_keys_file is not None:
            try:
                in_file = read_trusted_key_file(keys.api_keys_file)
            except KeyFileInvalid as error:
                return Finding("keys", "fail", str(error), "correct API_KEYS_FILE, or the file that it names")
            if not in_file and not keys.given_keys:
                seen = f"API_KEYS_FILE={keys.api_keys_file} has no key, so every call is refused"
                return Finding("keys", "warn", seen, "code-interpreter-api keys add NAME")
            if can_be_read_by_others(keys.api_keys_file):
                seen = READ_BY_OTHERS.format(keys.api_keys_file)
                return Finding("keys", "warn", seen, f"chmod 600 {keys.api_keys_file}")
        return machine.judge_keys(self._settings.server.host, needs_key=keys.needs_key)

    # --- this machine -----------------------------------------------------------------------------

    async def _port(self) -> None:
        self._add(await machine.check_port(self._settings.server.host, self._settings.server.port))

    async def _storage(self) -> None:
        if self._settings.storage.file_storage_url is not None:
            self._add(await machine.check_storage(open_storage(self._settings.storage)))
            return
        folder = self._settings.storage.file_storage_dir
        try:
            check_private_folder(folder)
        except NotPrivate as error:
            self._add(Finding("stored files", "fail", f"{error.path}: {error.reason}", error.advice))
        except OSError as error:
            help_ = "set FILE_STORAGE_DIR to a folder that this user can write"
            self._add(Finding("stored files", "fail", f"{folder}: {error.strerror or error}", help_))
        else:
            self._disk("stored files", folder, ours=True)

    def _disk(self, check: str, folder: Path, *, ours: bool) -> None:
        if not (ours or folder.is_dir()):
            self._add(Finding(check, "ok", f"{_NOT_LOOKED_AT}{folder} cannot be seen from here"))
            return
        try:
            disk = machine.inspect_disk(folder, write=ours)
        except OSError as error:
            self._add(
                Finding(check, "fail", f"{folder}: {error.strerror or error}", "see whether the disk works")
            )
        else:
            self._add(machine.judge_disk(check, folder, disk, ours=ours))

    async def _registry(self) -> None:
        url = self._settings.storage.registry_url
        try:
            schema = await asyncio.to_thread(migrations.look, database.make_reading_engine(url))
            server = await asyncio.to_thread(database.describe_server, url)
        except MigrationFailed as error:
            is_file = database.file_of(database.make_engine(url)) is not None
            help_ = "put a backup in its place" if is_file else "start the database, or see DATABASE_URL"
            self._add(Finding("registry", "fail", error.reason, help_))
        except StartError as error:
            self._add(Finding("registry", "fail", str(error), "run the service from its source folder"))
        else:
            self._add(_of_schema(schema, "" if server is None else f"; {server}"))

    # --- the engine -------------------------------------------------------------------------------

    async def _engine(self) -> None:
        is_docker = self._settings.engine.executor_backend == "docker"
        try:
            await (self._docker() if is_docker else self._cluster())
        except (CannotRunKernels, SessionsError) as error:
            help_ = _NO_DOCKER if is_docker else _NO_CLUSTER
            self._add(Finding("engine", "fail", str(error), help_))
            for check in ("image", "isolation, limits, memory"):
                self._left_out(check, "there is no engine", "repair the engine first")

    def _left_out(self, check: str, why: str, help_: str) -> None:
        self._add(Finding(check, "warn", f"{_NOT_LOOKED_AT}{why}", help_))

    async def _docker(self) -> None:
        engine = open_docker(self._settings, _own_name())
        found = engine.deployment
        where = f"{found.mode}, since {found.why}; published ports are at {found.dial}"
        self._add(Finding("mode", "ok", where))
        try:
            await self._docker_parts(
                engine, await engine.facts(), in_container=found.mode == "Docker-out-of-Docker"
            )
        finally:
            await engine.close()

    async def _cluster(self) -> None:
        settings = self._settings
        engine = await open_cluster(settings, _own_name())
        try:
            where = f"Kubernetes; kernels are pods of namespace {engine.namespace} at {engine.address}"
            self._add(Finding("mode", "ok", where))
            facts = await engine.facts(settings.containers.kernel_runtime)
            found = cluster_checks.judge_cluster(facts, engine.namespace, settings.containers.kernel_runtime)
            self._add(*found)
            if failed(found):
                self._left_out("image, isolation, limits", "no pod would start", "repair the above first")
                return

            def judge_room(spec: ContainerSpec) -> list[Finding]:
                most = settings.pool.max_containers
                return [
                    Finding("image", "ok", f"{spec.image}: it starts and answers as expected"),
                    *cluster_checks.judge_room(facts, needs(spec.limits), settings.pool.most_ready, most),
                ]

            await self._kernel(engine, judge_room, _NO_POD)
        finally:
            await engine.close()

    async def _kernel(self, engine: Engine, judge_room: JudgeRoom, help_: str) -> None:
        async def check() -> None:
            self._add(*await check_kernel(engine, self._settings, judge_room, help_))

        await self._step("a kernel's isolation and limits", check)

    async def _docker_parts(self, engine: Engine, facts: EngineFacts, *, in_container: bool) -> None:
        """`in_container`: this process is in a container of the engine, and does not see its disk."""
        self._add(*engine_checks.judge_engine(facts))
        self._add(engine_checks.judge_clock("clock of the engine", facts.clock_ahead_sec))
        if facts.is_local and not in_container:
            self._disk("engine's disk", Path(facts.folder), ours=False)
        name = self._settings.containers.python_executor_docker_image
        image = engine_checks.judge_image(name, await engine.image(name), service.__version__, own_digest())
        self._add(image)
        if image.level == "fail":
            self._left_out("isolation, limits, memory", "there is no image to try", "repair the image first")
            return

        def judge_room(spec: ContainerSpec) -> list[Finding]:
            ready, most = self._settings.pool.most_ready, self._settings.pool.max_containers
            return [limits.judge_memory(spec.limits, spec.idle_bytes, ready, most, facts.memory_bytes)]

        await self._kernel(engine, judge_room, _NO_CONTAINER)


def _own_name() -> str:
    """Return a registry id that no service has, so that the doctor finds no other's containers."""
    return f"doctor-{uuid.uuid4().hex}"


def _of_schema(schema: migrations.Schema | None, where: str) -> Finding:
    if schema is None:
        return Finding("registry", "ok", f"there is none yet: the first start creates it{where}")
    seen = f"schema {schema.revision}, and this version's is {schema.newest}"
    if not schema.is_known:
        help_ = "a newer version wrote it: upgrade the service, or go back to a backup"
        return Finding("registry", "fail", seen, help_)
    if schema.revision != schema.newest:
        return Finding("registry", "ok", f"{seen}: the next start migrates it")
    return Finding("registry", "ok", f"it is whole, with schema {schema.revision}{where}")
