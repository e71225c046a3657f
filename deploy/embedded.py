"""The kernel image that a preloaded service image has inside, given to the container's own engine.

Its files are a folder of the service's image, and stay there: the engine is given an image of one empty
layer, and the folder is mounted over that layer. So nothing of its gigabyte is unpacked or copied, and the
engine is ready as fast as an empty one. Where overlays can't be laid on that folder, or the engine keeps its
images in another way, the files are imported as an archive, once.
"""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from deploy.engine_api import EngineApi

_FOLDER: Final = Path("/opt/kernel-image")
_ROOT: Final = _FOLDER / "root"
_DESCRIPTION: Final = _FOLDER / "image.json"
_ID_LABEL: Final = "code-interpreter.embedded"
_TRIAL: Final = Path("/var/lib/docker/code-interpreter-trial")


def bring(engine: EngineApi, image: str) -> str | None:
    """See to it that the engine has the embedded image, if that is the one of that name.

    To be called after each start of the engine. Returns how it was done, if there was anything to do.

    Raises:
        EngineRefused: the engine does not take it.
    """
    if not _DESCRIPTION.exists():
        return None
    description = json.loads(_DESCRIPTION.read_text())
    if description["name"] != image:
        return None
    found = engine.image(image)
    if found is not None and (found["Config"].get("Labels") or {}).get(_ID_LABEL) == description["id"]:
        return _mount(found)
    done = None
    if _overlays_work():
        engine.import_image(image, io.BytesIO(_placeholder(description["id"])), _changes(description))
        imported = engine.image(image)
        done = _mount(imported) if imported is not None else None
    if done is None:
        command = ["tar", "--create", "--directory", str(_ROOT), "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
            assert archive.stdout is not None
            engine.import_image(image, archive.stdout, _changes(description))
        done = "imported, since overlays cannot be laid on it here,"
    if found is not None:
        engine.forget_image(found["Id"])
    return done


def _mount(image: dict[str, Any]) -> str | None:
    """Lay the files over the image's layer, if that is the empty one and nothing is there yet."""
    layer = Path((image["GraphDriver"]["Data"] or {}).get("UpperDir", os.devnull))
    if not (layer / _marker(image["Config"]["Labels"][_ID_LABEL])).exists():
        return None
    subprocess.run(["mount", "--bind", _ROOT, layer], check=True)
    return "mounted"


def _marker(image_id: str) -> str:
    return f".embedded-{image_id.removeprefix('sha256:')}"


def _placeholder(image_id: str) -> bytes:
    """An archive that is this image's alone, so that the engine keeps it as a layer of its own."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(_marker(image_id)))
    return content.getvalue()


def _overlays_work() -> bool:
    """Whether files can be laid over the folder: the kernel stacks two overlays and no more."""
    upper, work, merged = (_TRIAL / name for name in ("upper", "work", "merged"))
    for folder in (upper, work, merged):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={_ROOT},upperdir={upper},workdir={work}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    worked = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    if worked:
        subprocess.run(["umount", merged], check=True)
    subprocess.run(["rm", "-rf", _TRIAL], check=True)
    return worked


def _changes(description: dict[str, Any]) -> Iterator[str]:
    """The image's configuration as instructions of a Dockerfile."""
    config = description["config"]
    for assignment in config.get("Env") or ():
        name, _, value = assignment.partition("=")
        yield f"ENV {name}={_quoted(value)}"
    for name, value in ((config.get("Labels") or {}) | {_ID_LABEL: description["id"]}).items():
        yield f"LABEL {_quoted(name)}={_quoted(value)}"
    if config.get("WorkingDir"):
        yield f"WORKDIR {config['WorkingDir']}"
    for instruction, field in (("ENTRYPOINT", "Entrypoint"), ("CMD", "Cmd")):
        if config.get(field):
            yield f"{instruction} {json.dumps(config[field])}"


def _quoted(text: str) -> str:
    return json.dumps(text).replace("$", "\\$")
