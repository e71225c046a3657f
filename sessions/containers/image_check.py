"""Checks whether an image is a kernel image, and of this version. Pure, except `own_digest`.

An image that cannot work is refused. An image that may not fit is used, with a warning.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernel_image import contract
from sessions.containers.engine_facts import Image

_FOLDER: Final = Path(contract.__file__).parent
_FILES: Final = (
    *("Dockerfile", "build", "matplotlibrc", "flavours/debian-packages", "flavours/locales"),
    *("flavours/slim.lock", "flavours/default.lock", "flavours/full.lock"),
)
"""Files that the image is built from, besides the Python files."""
_DIGEST_LENGTH: Final = 32
_BUILD: Final = "`make image` builds the image of this version"


@dataclass(frozen=True)
class Verdict:
    """Warnings about an image; `unfit` is why it cannot work, or None."""

    unfit: str | None = None
    warnings: tuple[str, ...] = ()


def own_digest(folder: Path = _FOLDER) -> str | None:
    """Return the digest of the installed `kernel_image/`; None if parts of it are not installed."""
    sources = (path for path in folder.rglob("*.py") if path.is_file())
    paths = {f"./{path.relative_to(folder).as_posix()}": path for path in sources}
    paths |= {f"./{name}": folder / name for name in _FILES}
    try:
        sums = [f"{_sha256(paths[name])}  {name}\n" for name in sorted(paths)]
    except OSError:
        return None
    return hashlib.sha256("".join(sums).encode()).hexdigest()[:_DIGEST_LENGTH]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def judge(image: Image, version: str, digest: str | None) -> Verdict:
    """Compare an image's labels with the service's own version and digest of `kernel_image/`."""
    labels = image.labels
    if labels is None:
        return Verdict()
    theirs = labels.get(contract.CONTRACT_LABEL)
    if theirs is not None and theirs != str(contract.CONTRACT):
        return Verdict(
            f"it keeps contract {theirs} between service and kernels, and this service needs contract "
            f"{contract.CONTRACT}; {_BUILD}"
        )
    if contract.DIGEST_LABEL not in labels:
        if not any("kernel_image" in word for word in image.command):
            return Verdict(
                f"it is not a kernel image: it has no label {contract.DIGEST_LABEL}, and another command"
            )
        return Verdict(warnings=(f"it has no label with the digest of what it was built from; {_BUILD}",))
    return Verdict(warnings=tuple(_mismatches(labels, digest, version)))


def _mismatches(labels: Mapping[str, str], digest: str | None, version: str) -> list[str]:
    theirs, found = labels[contract.DIGEST_LABEL], []
    if digest is None:
        found.append("this installation lacks parts of kernel_image/, so its digest cannot be compared")
    elif theirs != digest:
        found.append(
            f"it was built from another kernel_image/ ({theirs}) than this service's ({digest}); {_BUILD}"
        )
    its_version = labels.get(contract.VERSION_LABEL, "unknown")
    if its_version != version:
        found.append(f"it has version {its_version}, and the service has version {version}; {_BUILD}")
    return found
