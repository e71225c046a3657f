"""Makes the kernel image inside a preloaded service image known to the container's own engine.

The files of the kernel image are a folder of the service's image. The engine gets an image of one empty
layer, and the folder is mounted over that layer. So the gigabyte of files is not unpacked or copied, and the
engine starts as fast as an empty one. If overlays do not work on that folder, or the engine stores its
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
_TRIED: Final = Path("/var/lib/docker/code-interpreter-tried")


def bring(engine: EngineApi, image: str) -> str | None:
    """Give the embedded image to the engine, if its name is `image`. Called after each start of the engine.

    Returns:
        How it was done, for the log; None if there was nothing to do.

    Raises:
        EngineRefused: the engine refused the image.
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
        done = "imported, since overlays do not work on its folder,"
    if found is not None:
        engine.remove_image(found["Id"])
    return done


def _mount(image: dict[str, Any]) -> str | None:
    """Mount the files over the image's layer, if the layer is the empty one and nothing is mounted yet."""
    layer = Path((image["GraphDriver"]["Data"] or {}).get("UpperDir", os.devnull))
    if not (layer / _marker(image["Config"]["Labels"][_ID_LABEL])).exists():
        return None
    subprocess.run(["mount", "--bind", _ROOT, layer], check=True)
    return "mounted"


def _marker(image_id: str) -> str:
    return f".embedded-{image_id.removeprefix('sha256:')}"


def _placeholder(image_id: str) -> bytes:
    """Return an archive with one file of a unique name, so that the engine makes a new layer of it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(_marker(image_id)))
    return content.getvalue()


def _overlays_work() -> bool:
    """Whether an overlay works on the folder: Linux stacks at most two overlays."""
    upper, work, merged = (_TRIED / name for name in ("upper", "work", "merged"))
    for folder in (upper, work, merged):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={_ROOT},upperdir={upper},workdir={work}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    worked = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    if worked:
        subprocess.run(["umount", merged], check=True)
    subprocess.run(["rm", "-rf", _TRIED], check=True)
    return worked


def _changes(description: dict[str, Any]) -> Iterator[str]:
    """Return the image's configuration as instructions of a Dockerfile."""
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
