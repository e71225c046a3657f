"""The settings: how variables are read, how invalid ones are reported, and their documentation."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsInvalid
from service.settings import Settings, load_settings
from service.settings.unknown import unknown_settings
from tests.support.settings import FIELDS

ROOT = Path(__file__).resolve().parents[1]
KNOWN = [name.upper() for name in FIELDS]

# The original's names and defaults, which clients and operators rely on.
ORIGINAL = {
    "HOST": "0.0.0.0",
    "PORT": 8000,
    "MAX_EXEC_TIMEOUT_MS": 10_000,
    "CPU_TIME_LIMIT_SEC": 5,
    "MEMORY_LIMIT_MB": 128,
    "MAX_OUTPUT_BYTES": 1_048_576,
    "MAX_FILE_SIZE_MB": 10,
    "FILE_STORAGE_DIR": Path("/tmp/code-interpreter-files"),
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the variables of the process that runs the tests."""
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set variables for one test."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def values(settings: Settings) -> dict[str, Any]:
    """Return the value of every setting by the name of its variable."""
    groups = (getattr(settings, group.name) for group in fields(settings))
    return {name.upper(): getattr(group, name) for group in groups for name in type(group).model_fields}


def test_defaults_are_those_of_the_original() -> None:
    """Without variables, each setting of the original has the original's default."""
    settings = values(load_settings())
    assert {name: settings[name] for name in ORIGINAL} == ORIGINAL


def test_sessions_have_larger_limits_unless_only_the_others_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was set up before sessions had limits of their own keeps its limits."""
    limits = load_settings().execution
    assert limits.session_memory_limit_mb == 512
    assert limits.session_cpu_time_limit_sec == 60
    assert limits.session_exec_timeout_ms == 60_000
    environment(
        monkeypatch, MEMORY_LIMIT_MB="700", SESSION_EXEC_TIMEOUT_MS="5000", MAX_EXEC_TIMEOUT_MS="9000"
    )
    limits = load_settings().execution
    assert limits.session_memory_limit_mb == 700
    assert limits.session_cpu_time_limit_sec == 60
    assert (limits.session_exec_timeout_ms, limits.max_exec_timeout_ms) == (5000, 9000)


def test_container_has_room_for_the_larger_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pool serves sessions and calls without one."""
    environment(monkeypatch, MEMORY_LIMIT_MB="64", SESSION_MEMORY_LIMIT_MB="100")
    assert load_settings().execution.container_share_bytes == 100 << 20
    environment(monkeypatch, MEMORY_LIMIT_MB="200")
    assert load_settings().execution.container_share_bytes == 200 << 20


def test_each_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is the field's name in capitals, and its text is converted to the field's type."""
    environment(
        monkeypatch,
        PORT="9000",
        FILE_STORAGE_DIR="somewhere",
        KERNEL_PRELOAD=" numpy, matplotlib.pyplot,",
        KERNEL_CPUS="0.5",
        LOG_LEVEL="debug",
        INSTANCE_ID="blue-1",
        POOL_SIZE="0",
        DATABASE_URL="postgresql://db/registry",
    )
    settings = load_settings()
    assert settings.server.port == 9000
    assert settings.storage.file_storage_dir == Path.cwd() / "somewhere"
    assert settings.containers.kernel_preload == ("numpy", "matplotlib.pyplot")
    assert settings.containers.kernel_cpus == 0.5
    assert settings.server.log_level == "DEBUG"
    assert settings.containers.instance_id == "blue-1"
    assert settings.pool.pool_size == 0
    assert settings.storage.registry_url == "postgresql://db/registry"


def test_each_variable_is_in_one_group() -> None:
    """Two groups with the same field would read the same variable."""
    settings = load_settings()
    groups = [getattr(settings, group.name) for group in fields(settings)]
    assert sum(len(type(group).model_fields) for group in groups) == len(FIELDS)


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the original: `PORT= code-interpreter-api` uses the default port."""
    defaults = load_settings()
    environment(monkeypatch, **{name.upper(): "" for name in FIELDS})
    assert load_settings() == defaults


def test_none_means_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable means the default, so the empty list needs a word."""
    environment(monkeypatch, KERNEL_PRELOAD="None")
    assert load_settings().containers.kernel_preload == ()


def test_registry_is_beside_the_files_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only DATABASE_URL places it elsewhere."""
    environment(monkeypatch, FILE_STORAGE_DIR="/data")
    assert load_settings().storage.registry_url == "sqlite:////data/registry.sqlite3"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("PORT", "-1"),
        ("MAX_EXEC_TIMEOUT_MS", "0"),
        ("MAX_EXEC_TIMEOUT_MS", "1.5"),
        ("CPU_TIME_LIMIT_SEC", "-5"),
        ("MEMORY_LIMIT_MB", "0"),
        ("MAX_OUTPUT_BYTES", "1MB"),
        ("MAX_FILE_SIZE_MB", "0"),
        ("FILE_TTL_SEC", "-1"),
        ("POOL_SIZE", "-1"),
        ("MAX_CONTAINERS", "0"),
        ("QUEUE_TIMEOUT_SEC", "nan"),
        ("QUEUE_TIMEOUT_SEC", "inf"),
        ("KERNEL_CPUS", "0"),
        ("KERNEL_PRELOAD", "numpy;rm -rf"),
        ("LOG_LEVEL", "LOUD"),
        ("INSTANCE_ID", "with space"),
        ("OPEN_PAGES", "health"),
        ("KEY_REQUESTS_PER_MINUTE", "-1"),
        ("KEY_MAX_EXECUTIONS", "many"),
        ("KEY_STORAGE_MB", "1.5"),
    ],
)
def test_invalid_value_is_reported_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The error is one sentence: the variable, what is wrong, and the value."""
    environment(monkeypatch, **{variable: value})
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    (sentence,) = caught.value.problems
    assert re.match(rf"{variable}:? ", sentence)
    assert sentence.endswith(".")
    assert value in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REPLICA_SECRET", "of-ours"),
        ("REPLICA_URL", "ftp://ann:of-ours@10.0.0.1"),
        ("REPLICA_URL", "http://ann:of-ours@10.0.0.1"),
        ("AWS_ENDPOINT_URL", "https://ann:of-ours@storage"),
        ("FILE_STORAGE_URL", "s3://ann:of-ours@bucket/prefix"),
    ],
)
def test_errors_show_no_secret(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """The sentences go into logs."""
    environment(monkeypatch, **{variable: value})
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert any(sentence.startswith(variable) for sentence in caught.value.problems)
    assert "of-ours" not in str(caught.value)


def test_pool_larger_than_the_container_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names both settings."""
    environment(monkeypatch, POOL_SIZE="5", MAX_CONTAINERS="4")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert caught.value.problems == ("POOL_SIZE (5) must not be larger than MAX_CONTAINERS (4).",)


def test_replica_without_shared_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names every setting that is missing, from whichever group."""
    environment(monkeypatch, REPLICA_URL="http://10.0.0.1:8000", DATABASE_URL="sqlite:////data/registry")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    missing = "DATABASE_URL of a PostgreSQL and FILE_STORAGE_URL and REPLICA_SECRET"
    assert caught.value.problems == (f"REPLICA_URL needs {missing}, the same for all.",)


def test_all_invalid_variables_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator can correct all mistakes after one failed start."""
    environment(monkeypatch, PORT="x", POOL_SIZE="y", LOG_LEVEL="z")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert len(caught.value.problems) == 3


def test_settings_cannot_be_changed() -> None:
    """No code can turn a limit off while the service runs."""
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.server = settings.server  # type: ignore[misc]


def test_command_reports_invalid_settings_and_exits_with_2() -> None:
    """`code-interpreter-api` prints one sentence for each, and no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PORT": "http", "POOL_SIZE": "-1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["PORT", "POOL_SIZE"]


# The documentation -----------------------------------------------------------------------------


def default_text(default: Any) -> str:
    """Return a default as an operator would write it into the environment."""
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        default = ",".join(default) or "none"
    return f"`{default}`"


def expected_table() -> str:
    """Return the table of docs/settings.md that fits the code."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in FIELDS.items():
        rows.append(f"| `{name.upper()}` | {default_text(field.default)} | {field.description} |")
    return "\n".join(rows)


def test_documented_table_matches_the_code() -> None:
    """docs/settings.md lists every setting with its default and meaning, and no other."""
    document = (ROOT / "docs" / "settings.md").read_text()
    table = "\n".join(re.findall(r"^\|.*$", document, re.MULTILINE))
    expected = expected_table()
    assert table == expected, f"docs/settings.md should have this table:\n{expected}"


@pytest.mark.parametrize(
    ("variable", "similar"),
    [
        ("POOL_SZE", "POOL_SIZE"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("MAX_CONTAINER", "MAX_CONTAINERS"),
        ("API_KEY", "API_KEYS"),
        ("MEMORY_LIMIT_MIB", "MEMORY_LIMIT_MB"),
        ("CONTAINERS_REUSE", "CONTAINER_REUSE"),
    ],
)
def test_misspelt_variable_is_reported_with_the_setting(variable: str, similar: str) -> None:
    """The sentence names the setting that was probably meant."""
    (sentence,) = unknown_settings([variable, "PATH"], KNOWN)
    assert sentence == f"{variable} is not a setting and has no effect. Did you mean {similar}?"


@pytest.mark.parametrize("variable", ["PYTHON_EXECUTOR_DOCKER_RUN_ARGS", "KEY_COLOUR", "KERNEL_ENVIRONMENT"])
def test_unknown_variable_with_the_prefix_of_a_setting_is_reported(variable: str) -> None:
    """There is no similar setting, so the sentence names the list of all."""
    (sentence,) = unknown_settings([variable], KNOWN)
    assert sentence.startswith(f"{variable} is not a setting") and "docs/settings.md" in sentence


@pytest.mark.parametrize(
    "variable",
    [
        *(
            "PATH",
            "HOME",
            "HOSTNAME",
            "USER",
            "LANG",
            "TERM",
            "PWD",
            "SHLVL",
            "OLDPWD",
            "SHELL",
            "MAIL",
            "EDITOR",
        ),
        *("KUBERNETES_SERVICE_HOST", "KUBERNETES_PORT_443_TCP", "DOCKER_BUILDKIT", "DOCKER_CONFIG"),
        *("OTEL_SERVICE_NAME", "PYTHONPATH", "PYTHON_VERSION", "HTTP_PROXY", "NO_PROXY", "SSH_CONNECTION"),
        *("XDG_SESSION_ID", "XDG_DATA_DIRS", "AWS_REGION", "VIRTUAL_ENV", "COMPOSE_PROJECT_NAME"),
        *("POSTGRES_PASSWORD", "TZ", "DEBIAN_FRONTEND", "GITHUB_TOKEN", "CI", "MAKEFLAGS", "MAKELEVEL"),
        *KNOWN,
    ],
)
def test_variables_of_other_programs_are_not_reported(variable: str) -> None:
    """Neither are the settings."""
    assert list(unknown_settings([variable], KNOWN)) == []
