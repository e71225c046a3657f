"""The settings: what the environment may say, what is said back, and what the documents promise."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsInvalid
from service.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]

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
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the tests themselves plays no part."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set variables for one test."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_defaults_are_those_of_the_original() -> None:
    """With nothing set, what the original had is as it was there."""
    settings = load_settings()
    assert {name: getattr(settings, name.lower()) for name in ORIGINAL} == ORIGINAL


def test_each_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is the name in capitals; values become what the field is."""
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
    assert settings.port == 9000
    assert settings.file_storage_dir == Path.cwd() / "somewhere"
    assert settings.kernel_preload == ("numpy", "matplotlib.pyplot")
    assert settings.kernel_cpus == 0.5
    assert settings.log_level == "DEBUG"
    assert settings.instance_id == "blue-1"
    assert settings.pool_size == 0
    assert settings.registry_url == "postgresql://db/registry"


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the original: `PORT= code-interpreter-api` is the default port."""
    environment(monkeypatch, **{name.upper(): "" for name in Settings.model_fields})
    assert load_settings() == Settings()


def test_preloading_nothing_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is the default, so the empty list has a word."""
    environment(monkeypatch, KERNEL_PRELOAD="None")
    assert load_settings().kernel_preload == ()


def test_the_registry_is_beside_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless DATABASE_URL says otherwise."""
    environment(monkeypatch, FILE_STORAGE_DIR="/data")
    assert load_settings().registry_url == "sqlite:////data/registry.sqlite3"


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
def test_a_bad_value_is_one_sentence_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """It names the variable, says what is wrong, and shows the value."""
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
def test_what_is_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Such sentences go into logs."""
    environment(monkeypatch, **{variable: value})
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert any(sentence.startswith(variable) for sentence in caught.value.problems)
    assert "of-ours" not in str(caught.value)


def test_a_pool_must_fit_into_the_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two settings that contradict each other are both named."""
    environment(monkeypatch, POOL_SIZE="5", MAX_CONTAINERS="4")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert caught.value.problems == ("POOL_SIZE (5) must not be larger than MAX_CONTAINERS (4).",)


def test_every_bad_variable_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to start the service once for each mistake."""
    environment(monkeypatch, PORT="x", POOL_SIZE="y", LOG_LEVEL="z")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert len(caught.value.problems) == 3


def test_settings_do_not_change() -> None:
    """Nothing can turn a limit off once the service runs."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


def test_the_command_says_what_is_wrong_and_exits_with_2() -> None:
    """`code-interpreter-api` with bad settings: sentences, no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "service.server"],
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


# The documents ---------------------------------------------------------------------------------


def default_text(default: Any) -> str:
    """A default as one would write it into the environment."""
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        default = ",".join(default) or "none"
    return f"`{default}`"


def expected_table() -> str:
    """The table of docs/settings.md, made from the code."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name.upper()}` | {default_text(field.default)} | {field.description} |")
    return "\n".join(rows)


def test_the_documented_table_is_the_code() -> None:
    """docs/settings.md lists every setting with its default and meaning, and no other."""
    document = (ROOT / "docs" / "settings.md").read_text()
    table = "\n".join(re.findall(r"^\|.*$", document, re.MULTILINE))
    expected = expected_table()
    assert table == expected, f"docs/settings.md should have this table:\n{expected}"
