"""Images for tests, made from the kernel image, and an image registry from which they are pulled."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.engine import IMAGE, TEST_LABEL
from tests.support.process import ROOT, free_port

_REGISTRY: Final = f"{ROOT}/.cache/docker-registry/usr/bin:{os.environ['PATH']}"
_LEAVE_OUT: Final = ("usr/share", "usr/local/share", "usr/lib/python3", "usr/lib/apt", "*/perl*", "*/test")
_PACKAGES: Final = """
    IPython ipykernel jupyter_client jupyter_core traitlets tornado zmq pyzmq.libs dateutil six.py decorator
    decorator.py pygments prompt_toolkit wcwidth stack_data executing asttokens pure_eval matplotlib_inline
    comm psutil nest_asyncio.py packaging platformdirs pexpect ptyprocess typing_extensions.py
    ipython_pygments_lexers.py code-interpreter.pth
"""
_PACK: Final = f"""
list=
for name in {" ".join(_PACKAGES.split())}; do
  path=./opt/venv/lib/python3.11/site-packages/$name
  if [ -e $path ]; then list="$list $path"; fi
done
exec tar -c {" ".join(f"--exclude='./{path}'" for path in _LEAVE_OUT)} $(ls -d ./bin ./sbin ./lib*) \
  ./usr ./etc ./opt/venv/bin ./opt/venv/pyvenv.cfg ./opt/code-interpreter ./workspace ./home ./tmp $list
"""


def docker(*arguments: str, stdin: str = "") -> str:
    """Run a `docker` command that must succeed, and return its output."""
    environment = os.environ | {"DOCKER_BUILDKIT": "0"}
    ended = subprocess.run(
        ["docker", *arguments],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def labels_of(image: str) -> dict[str, str]:
    """Return the labels of an image."""
    format_ = "{{range $name, $value := .Config.Labels}}{{$name}}={{$value}}\n{{end}}"
    lines = docker("image", "inspect", "--format", format_, image).splitlines()
    return dict(line.split("=", 1) for line in lines if line)


def derive(tag: str, labels: Mapping[str, str] | None = None) -> str:
    """Build and tag an image from the kernel image with changed labels, and return its id.

    Each call makes an image with another id.
    """
    changed = {"code-interpreter.tests.made": str(time.time()), **(labels or {})}
    lines = [f"FROM {IMAGE}", *(f"LABEL {name}={value}" for name, value in changed.items())]
    docker("build", "--force-rm", "--tag", tag, "-", stdin="\n".join(lines))
    return docker("image", "inspect", "--format", "{{.Id}}", tag)


def make_small(tag: str) -> str:
    """Make and tag a kernel image without its libraries, and return its id.

    The image has one layer, and a tenth of the size.
    """
    labels = labels_of(IMAGE)
    changes = [
        'CMD ["python", "-I", "-m", "kernel_image.supervisor"]',
        "ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8",
        "WORKDIR /workspace",
        *(f'LABEL {name}="{value}"' for name, value in labels.items()),
    ]
    options = [word for change in changes for word in ("--change", change)]
    pack = [
        "docker",
        "run",
        "--rm",
        "--interactive",
        "--network",
        "none",
        "--label",
        TEST_LABEL,
        "--workdir",
        "/",
    ]
    with subprocess.Popen(
        [*pack, IMAGE, "sh", "-c", _PACK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as packing:
        imported = subprocess.run(
            ["docker", "import", *options, "-", tag], stdin=packing.stdout, check=True, capture_output=True
        )
    return imported.stdout.decode().strip()


def remove(*images: str) -> None:
    """Remove images that may exist."""
    for image in images:
        subprocess.run(["docker", "image", "rm", "--force", image], check=False, capture_output=True)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run Debian's image registry for the block, and return its address."""
    program = shutil.which("docker-registry", path=_REGISTRY)
    if program is None:
        pytest.skip("this test needs Debian's package docker-registry: scripts/setup-test-tools fetches it")
    address = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}\n"
        f"http: {{addr: {address}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"http://{address}/v2/").status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(60)
