"""`code-interpreter-api doctor` on this machine: alone, beside a service, and with real problems."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel_image import contract
from service.doctor.command import Doctor
from service.doctor.finding import Finding
from service.doctor.machine import inspect_disk, judge_disk
from service.doctor.report import table
from service.settings import load_settings
from sessions.containers.docker.address import find_engine
from sessions.containers.docker.engine import DockerEngine
from tests.faults.conftest import mounted
from tests.support import images
from tests.support.engine import IMAGE, Engine
from tests.support.object_storage import ObjectStorageServer
from tests.support.postgres import Postgres
from tests.support.process import INHERITED, ROOT, Service, free_port

pytestmark = pytest.mark.timeout(120)

NO_ENGINE = "unix:///nonexistent/docker.sock"


@dataclass(frozen=True)
class Report:
    """The doctor's report."""

    exit_code: int
    findings: dict[str, dict[str, str]]
    progress: str

    def levels(self, level: str) -> set[str]:
        """Return the checks with that level."""
        return {name for name, finding in self.findings.items() if finding["level"] == level}


def doctor(*arguments: str, module: str = "service", **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the command with only the given settings."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {"PYTHON_EXECUTOR_DOCKER_IMAGE": IMAGE, "KERNEL_PRELOAD": "none", "HOST": "127.0.0.1"}
    environment |= {name: str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", module, "doctor", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def examined(*, module: str = "service", **settings: object) -> Report:
    """Run the command, and return its JSON report. If findings share a name, the last one counts."""
    done = doctor("--json", module=module, **settings)
    assert "Traceback" not in done.stderr, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is (done.returncode == 0)
    assert all(finding["remedy"] for finding in report["findings"] if finding["level"] != "ok")
    findings = {finding["check"]: finding for finding in report["findings"]}
    return Report(done.returncode, findings, done.stderr)


@pytest.fixture(scope="module", autouse=True)
def unlimited(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Report]]:
    """Run a doctor whose kernel has no limits and whose image has another digest, beside the other tests."""
    tag = f"code-interpreter-tests:{uuid.uuid4().hex[:12]}"
    images.derive(tag, {contract.DIGEST_LABEL: "0123"})
    settings = {
        "PYTHON_EXECUTOR_DOCKER_IMAGE": tag,
        "FILE_STORAGE_DIR": tmp_path_factory.mktemp("unlimited") / "not made yet",
        "PORT": free_port(),
        # Even a busy machine reaches this.
        "KERNEL_CPUS": 0.2,
    }
    with ThreadPoolExecutor() as threads:
        yield threads.submit(examined, module="tests.unlimited", **settings)
    images.remove(tag)


@pytest.fixture(scope="module")
def sound_report(service: Service) -> tuple[Report, set[str], set[str]]:
    """Run the doctor beside a service. Return the report, and the service's kernels before and after."""
    before = service.settle()
    port = service.base_url.rpartition(":")[2]
    report = examined(PORT=port, FILE_STORAGE_DIR=service.storage)
    return report, before, service.settle()


def test_sound_machine_has_no_failures(sound_report: tuple[Report, set[str], set[str]]) -> None:
    """Every check has a finding. Warnings about this machine are allowed."""
    report = sound_report[0]
    assert report.exit_code == 0 and report.levels("fail") == set()
    allowed_warnings = {"engine's warning", "stored files", "engine's disk", "CPU", "memory"}
    assert report.levels("warn") <= allowed_warnings
    assert set(report.findings) >= {
        *("settings", "keys", "port", "stored files", "registry", "clock"),
        *(
            "mode",
            "engine",
            "storage driver",
            "cgroups",
            "security options",
            "host's kernel",
            "clock of the engine",
        ),
        "image",
        *(
            "isolation",
            "memory of the code",
            "memory of a container",
            "processes",
            "CPU",
            "disks of a container",
        ),
        *("clock of a kernel", "memory"),
    }
    assert report.findings["memory of the code"]["seen"] == "ended at the limit of 512 MiB"
    assert report.progress.count("looking at ") == 5


def test_running_service_is_recognised_and_not_disturbed(
    sound_report: tuple[Report, set[str], set[str]], service: Service
) -> None:
    """The doctor recognises the service's port, reads its registry, and does not touch its kernels."""
    report, before, after = sound_report
    assert "this service, version" in report.findings["port"]["seen"]
    assert "it is whole" in report.findings["registry"]["seen"]
    assert before == after
    assert service.api.run("print(6 * 7)")["stdout"] == "42\n"


def test_limits_that_are_not_enforced_are_found(unlimited: Future[Report]) -> None:
    """The self-test reads them, and the limit checks exceed them. Another image is a warning.

    The doctor leaves no container.
    """
    report = unlimited.result(timeout=110)
    listed = images.docker("ps", "--all", "--format", f'{{{{.Label "{contract.INSTANCE_LABEL}"}}}}')
    assert "doctor-" not in listed
    assert report.exit_code == 1
    # On a busy machine the check may get no more than one CPU.
    assert report.levels("fail") | {"CPU"} == {
        *("isolation: memory", "isolation: processes", "isolation: CPU", "isolation: writable folders"),
        *("memory of a container", "processes", "CPU", "disks of a container"),
    }
    assert report.findings["memory of the code"]["level"] == "ok"
    assert report.findings["image"]["level"] == "warn" and "(0123)" in report.findings["image"]["seen"]
    assert "the first start creates it" in report.findings["registry"]["seen"]


def test_problems_are_found_without_an_engine(tmp_path: Path) -> None:
    """The engine is missing, the disk too small, the port in use, the registry not a database."""
    with mounted(tmp_path / "disk", "8m") as disk, socket.create_server(("127.0.0.1", 0)) as other:
        (disk / "registry.sqlite3").write_bytes(b"once upon a time " * 1000)
        report = examined(DOCKER_HOST=NO_ENGINE, FILE_STORAGE_DIR=disk, PORT=other.getsockname()[1])
    assert report.exit_code == 1
    assert report.levels("fail") == {"engine", "stored files", "port", "registry"}
    assert "not a database" in report.findings["registry"]["seen"]
    assert "Address already in use" in report.findings["port"]["seen"]
    seen = report.findings["engine"]["seen"]
    assert seen.endswith("does not answer: No such file or directory: is the Docker engine running?"), seen
    for name in ("image", "isolation, limits, memory"):
        assert "not looked at" in report.findings[name]["seen"]


def test_folder_that_others_can_use_is_found_and_not_changed(tmp_path: Path) -> None:
    """The doctor says what to do. It leaves a folder as it is that the start would make private."""
    loose, own = tmp_path / "loose", tmp_path / "own"
    for folder in (loose / "storage", own):
        folder.mkdir(parents=True)
    loose.chmod(0o777)
    own.chmod(0o755)
    found = examined(DOCKER_HOST=NO_ENGINE, FILE_STORAGE_DIR=loose / "storage", PORT=free_port()).findings
    assert found["stored files"]["level"] == "fail"
    assert f"{loose}: other users can replace" in found["stored files"]["seen"]
    found = examined(DOCKER_HOST=NO_ENGINE, FILE_STORAGE_DIR=own, PORT=free_port()).findings
    assert found["stored files"]["level"] != "fail"
    assert own.stat().st_mode & 0o777 == 0o755


def test_an_image_that_is_missing_or_cannot_work_is_found(tmp_path: Path) -> None:
    """The doctor starts no kernel, and runs all other checks."""
    tag = f"code-interpreter-tests:{uuid.uuid4().hex[:12]}"

    def look() -> Report:
        return examined(FILE_STORAGE_DIR=tmp_path, PORT=free_port(), PYTHON_EXECUTOR_DOCKER_IMAGE=tag)

    report = look()
    assert report.levels("fail") == {"image"} and f"{tag} is not there" in report.findings["image"]["seen"]
    images.derive(tag, {contract.CONTRACT_LABEL: "99"})
    report = look()
    images.remove(tag)
    assert report.levels("fail") == {"image"} and "contract 99" in report.findings["image"]["seen"]
    assert "not looked at" in report.findings["isolation, limits, memory"]["seen"]


def test_invalid_settings_are_listed_and_exit_with_status_2() -> None:
    """The table has a line for each invalid setting, with its variable."""
    done = doctor(POOL_SIZE="many", PORT="99999")
    assert done.returncode == 2
    assert "POOL_SIZE" in done.stdout and "PORT" in done.stdout and done.stdout.count("FAIL") == 2
    assert json.loads(doctor("--json", POOL_SIZE="many").stdout)["ok"] is False


def test_a_disk_that_is_full_or_read_only_is_found(tmp_path: Path) -> None:
    """The doctor tries to write to the disk, and leaves nothing there."""
    with mounted(tmp_path / "disk", "300m") as disk:
        sound = inspect_disk(disk / "files" / "deep", write=True)
        assert judge_disk("disk", disk, sound, ours=True).level == "warn" and sound.write_error is None
        assert list(disk.iterdir()) == []
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 20)):
                pass
        finding = judge_disk("disk", disk, inspect_disk(disk, write=True), ours=True)
        assert finding.level == "fail" and "No space left" in finding.seen
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        read_only = judge_disk("disk", disk, inspect_disk(disk, write=True), ours=True)
        assert read_only.level == "fail" and "Read-only file system" in read_only.seen
        assert [path.name for path in disk.iterdir()] == ["filler"]


def of_schema(path: Path, revision: str) -> None:
    """Make a registry with a schema revision."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


@pytest.mark.parametrize(
    ("change", "level", "message"),
    [
        (lambda path: path.write_bytes(b""), "ok", "none yet"),
        (lambda path: of_schema(path, "9999"), "fail", "a newer version"),
        (lambda path: of_schema(path, "0001"), "ok", "the next start migrates it"),
    ],
    ids=["empty", "newer", "older"],
)
def test_schema_of_the_registry_is_reported(
    change: Callable[[Path], object], level: str, message: str, tmp_path: Path
) -> None:
    """The finding says what the next start will do. The registry is not changed."""
    path = tmp_path / "registry.sqlite3"
    change(path)
    before = path.read_bytes()
    report = examined(DOCKER_HOST=NO_ENGINE, FILE_STORAGE_DIR=tmp_path, PORT=free_port())
    finding = report.findings["registry"]
    assert finding["level"] == level and message in finding["seen"] + finding["remedy"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "level", "seen"),
    [
        (None, "fail", "No such file or directory"),
        ("garbage", "fail", "line 1 is not NAME:sha256:HEX"),
        ("# none yet\n", "warn", "has no key, so every call is refused"),
        (f"ann:sha256:{'0' * 64}\n", "ok", "callers need one"),
    ],
    ids=["missing", "garbage", "empty", "one key"],
)
def test_key_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, level: str, seen: str
) -> None:
    """A file that cannot be used is a failure, because the service would not start with it."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    finding = Doctor(load_settings())._keys()
    assert (finding.level, seen in finding.seen) == (level, True), finding


def test_database_and_object_storage_are_checked(
    postgres: Postgres, object_storage: ObjectStorageServer, tmp_path: Path
) -> None:
    """The findings say what they are and how fast they answer, or what is wrong."""
    environment = {"DATABASE_URL": postgres.new(), **object_storage.settings(object_storage.new())}
    found = examined(FILE_STORAGE_DIR=tmp_path, DOCKER_HOST=NO_ENGINE, **environment).findings
    assert "postgresql 1" in found["registry"]["seen"] and "answers in" in found["registry"]["seen"]
    assert "written and removed" in found["stored files"]["seen"]
    unreachable = environment | {
        "DATABASE_URL": "postgresql://x@127.0.0.1:1/y",
        "FILE_STORAGE_URL": "s3://there-is-none",
    }
    found = examined(FILE_STORAGE_DIR=tmp_path, DOCKER_HOST=NO_ENGINE, **unreachable).findings
    assert found["registry"]["level"] == found["stored files"]["level"] == "fail"
    assert "DATABASE_URL" in found["registry"]["remedy"]


async def test_facts_agree_with_docker_info() -> None:
    """The engine's clock agrees with this machine's."""
    engine = DockerEngine(find_engine(None))
    facts = await engine.facts()
    await engine.close()
    message = images.docker(
        "info",
        "--format",
        "{{.ServerVersion}} {{.Driver}} {{.CgroupVersion}} {{.KernelVersion}} {{.NCPU}} {{.MemTotal}}",
    )
    assert message.split() == [
        *(facts.version, facts.storage_driver, facts.cgroup_version, facts.kernel),
        *(str(facts.cpus), str(facts.memory_bytes)),
    ]
    assert "seccomp" in facts.security and facts.missing_limits == () and abs(facts.clock_ahead_sec) < 5


def test_table_shows_remedies() -> None:
    """A remedy is below each finding that is not ok. Long lines are wrapped."""
    shown = table(
        [
            Finding("port", "ok", "free"),
            Finding("disk", "fail", "full " * 40, "make room"),
            Finding("x", "warn", "y", "z"),
        ]
    )
    assert "-> make room" in shown and "FAIL" in shown and "1 failure, 1 warning." in shown
    assert max(map(len, shown.splitlines())) <= 110
