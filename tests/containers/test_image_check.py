"""Checks of an image's labels, the progress of a pull, and the digest of `kernel_image/`."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernel_image import contract
from sessions.containers.engine_facts import Image
from sessions.containers.image_check import judge, own_digest
from sessions.containers.image_pull import PullProgress
from tests.support.process import ROOT

LABELS = {
    contract.CONTRACT_LABEL: str(contract.CONTRACT),
    contract.DIGEST_LABEL: "d",
    contract.VERSION_LABEL: "1.0",
}
STARTS = ("python", "-I", "-m", "kernel_image")


def image(*without: str, **labels: str) -> Image:
    """Return a kernel image of version 1.0 and digest d, with other labels or without some."""
    changed = LABELS | {getattr(contract, name): value for name, value in labels.items()}
    return Image("sha256:1", {name: value for name, value in changed.items() if name not in without}, STARTS)


def test_image_of_this_version_has_no_warnings() -> None:
    """All of its labels are as the service expects."""
    verdict = judge(image(), "1.0", "d")
    assert verdict.unfit is None and verdict.warnings == ()


@pytest.mark.parametrize(
    ("changed", "warnings"),
    [
        (image(DIGEST_LABEL="e"), ["another kernel_image/ (e)"]),
        (image(VERSION_LABEL="0.9"), ["version 0.9"]),
        (image(DIGEST_LABEL="e", VERSION_LABEL="0.9"), ["another kernel_image/ (e)", "version 0.9"]),
        (image(contract.VERSION_LABEL), ["version unknown"]),
        (image(contract.DIGEST_LABEL), ["no label with the digest of what it was built from"]),
        (image(contract.CONTRACT_LABEL), []),
    ],
)
def test_an_image_that_may_not_fit_is_used_with_a_warning(changed: Image, warnings: list[str]) -> None:
    """Each difference gives one warning."""
    verdict = judge(changed, "1.0", "d")
    assert verdict.unfit is None
    assert len(verdict.warnings) == len(warnings)
    for warning, part in zip(verdict.warnings, warnings, strict=True):
        assert part in warning


def test_an_image_that_cannot_work_is_refused() -> None:
    """An image with another contract, or one that is no kernel image, is refused."""
    assert "contract 99" in str(judge(image(CONTRACT_LABEL="99"), "1.0", "d").unfit)
    assert "not a kernel image" in str(judge(Image("sha256:2", {}, ("bash",)), "1.0", "d").unfit)


def test_service_without_a_digest_of_its_own_warns() -> None:
    """The service does not assume that an image fits which it cannot compare."""
    (warning,) = judge(image(), "1.0", None).warnings
    assert "lacks parts" in warning


def test_digest_equals_the_digest_of_builds(tmp_path: Path) -> None:
    """`scripts/image-digest` prints the same. Any change changes it. Without all files there is none."""
    printed = subprocess.run([ROOT / "scripts/image-digest"], capture_output=True, text=True, check=True)
    assert own_digest() == printed.stdout.strip()
    folder = tmp_path / "kernel_image"
    shutil.copytree(ROOT / "kernel_image", folder)
    assert own_digest(folder) == own_digest()
    with (folder / "confinement/probe.py").open("a") as file:
        file.write("\n")
    assert own_digest(folder) not in (own_digest(), None)
    (folder / "flavours/full.lock").unlink()
    assert own_digest(folder) is None


def test_digest_uses_only_files_that_are_installed() -> None:
    """The installed files are the Python files, and the files that pyproject.toml names."""
    listed = (ROOT / "pyproject.toml").read_text().partition("kernel_image = ")[2].splitlines()[0]
    digested = (ROOT / "scripts/image-digest").read_text()
    for pattern in json.loads(listed):
        name = Path(pattern).name
        assert f"-name {name}" in digested.replace("'", "") and list((ROOT / "kernel_image").glob(pattern))
    assert digested.count("-name") == len(json.loads(listed)) + 1


def test_changed_contract_needs_a_new_number() -> None:
    """Both sides agree on ports, paths, frames and names. If you change one, increase `CONTRACT`.

    Then write the new digest here. The supervisor's HTTP API is a part of the contract too.
    """
    agreed = {name: getattr(contract, name) for name in dir(contract) if name.isupper()}
    text = json.dumps(
        {
            name: sorted(value) if isinstance(value, frozenset) else str(value)
            for name, value in sorted(agreed.items())
        }
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "c4f565b97edb02d2"


def event(layer: str, status: str, **detail: int) -> dict[str, Any]:
    """Return an engine's event about a layer."""
    return {"id": layer, "status": status, "progressDetail": detail}


def test_progress_counts_bytes_and_layers() -> None:
    """Downloads are added up, existing layers count as done, and other events are ignored."""
    progress = PullProgress()
    for line in (
        {"id": "latest", "status": "Pulling from kernel"},
        {"status": "Digest: sha256:0"},
        event("a", "Already exists"),
        event("b", "Downloading", current=3_000_000, total=10_000_000),
        event("c", "Downloading", current=1_000_000, total=2_000_000),
        event("c", "Download complete"),
        event("d", "Waiting"),
        event("b", "Downloading", current=4_000_000, total=10_000_000),
    ):
        progress.take(line)
    assert str(progress) == "6 of 12 MB, 1 of 4 layers"
    progress.take(event("c", "Extracting", current=1, total=2_000_000))
    progress.take(event("c", "Pull complete"))
    assert str(progress) == "6 of 12 MB, 2 of 4 layers"
