"""Whether an image is a kernel image, and the one this service was made with. Pure, but for `own_digest`.

An image that cannot work is refused; one that only may not fit is used, and what is odd about it is said.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernel_image import contract
from sessions.models import Image

_FOLDER: Final = Path(contract.__file__).parent
_FILES: Final = ("Dockerfile", "build", "matplotlibrc", "requirements.lock")
"""What the image is made from besides the Python files."""
_DIGEST_LENGTH: Final = 32
_BUILD: Final = "`make image` builds this version's"


@dataclass(frozen=True)
class Verdict:
    """What is to be said of an image; `unfit` is why it cannot work."""

    unfit: str | None = None
    warnings: tuple[str, ...] = ()


def own_digest(folder: Path = _FOLDER) -> str | None:
    """The digest of `kernel_image/` beside this code; None where parts of it are not installed."""
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
    """Hold an image's labels against the service's own version and digest of `kernel_image/`."""
    labels = image.labels
    if labels is None:
        return Verdict()
    theirs = labels.get(contract.CONTRACT_LABEL)
    if theirs is not None and theirs != str(contract.CONTRACT):
        return Verdict(
            f"it keeps contract {theirs} between service and kernels, and this service keeps "
            f"{contract.CONTRACT}; {_BUILD}"
        )
    if contract.DIGEST_LABEL not in labels:
        if not any("kernel_image" in word for word in image.command):
            return Verdict(
                f"it is no kernel image: it has no label {contract.DIGEST_LABEL} and starts something else"
            )
        return Verdict(warnings=(f"it does not say what it was built from; {_BUILD}",))
    return Verdict(warnings=tuple(_mismatches(labels, digest, version)))


def _mismatches(labels: Mapping[str, str], digest: str | None, version: str) -> list[str]:
    theirs, found = labels[contract.DIGEST_LABEL], []
    if digest is None:
        found.append("this installation lacks parts of kernel_image/, so nobody can tell whether it fits")
    elif theirs != digest:
        found.append(
            f"it was built from another kernel_image/ ({theirs}) than this service's ({digest}); {_BUILD}"
        )
    its_version = labels.get(contract.VERSION_LABEL, "unknown")
    if its_version != version:
        found.append(f"it is of version {its_version}, and the service of {version}; {_BUILD}")
    return found
