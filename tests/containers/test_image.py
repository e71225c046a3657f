"""Tests of the kernel image: its libraries, fonts, user and labels, and images that are built on it."""

import base64
import hashlib
import re
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest

from kernel_image import contract
from tests.conftest import StartService
from tests.support.engine import IMAGE, Engine
from tests.support.kernel_images import docker, run_python
from tests.support.process import ROOT, Service
from tests.support.session import new_session

LIBRARIES: Final = """
    altair bokeh.plotting docx2txt fpdf h5py html5lib ipywidgets lightgbm markdown odf.opendocument
    plotly.express pyarrow.dataset pyarrow.feather pyarrow.parquet pytz shapely sqlalchemy vl_convert
    wordcloud
    bs4 cv2 docx IPython ipykernel lxml.etree matplotlib.pyplot matplotlib_venn networkx numpy
    openpyxl pandas pdfplumber PIL.Image pptx pydantic pypdf reportlab requests scipy.stats
    seaborn skimage.io sklearn.ensemble statsmodels.api sympy tabulate tornado tqdm xgboost xlrd
    xlsxwriter yaml zmq
"""

SCRIPTS: Final = {
    "Latin": "Größe",
    "Greek": "Ελλάδα",
    "Cyrillic": "Москва",
    "Simplified Chinese": "销售额",
    "Traditional Chinese": "銷售額",
    "Japanese": "売り上げグラフ",
    "Korean": "매출액",
    "Devanagari": "हिन्दी",
    "Arabic": "المبيعات",
    "Hebrew": "מכירות",
    "Thai": "ยอดขาย",
    "Bengali": "বাংলা",
    "Tamil": "தமிழ்",
    "Ethiopic": "አማርኛ",
    "Georgian": "ქართული",
    "Khmer": "ខ្មែរ",
    "emoji": "😀🎉",
    "mathematics": "∑≤⇌ℝ",
}

LOCKS: Final = (
    *("requirements.lock", "requirements-dev.lock", "kernel_image/flavours/slim.lock"),
    *("kernel_image/flavours/default.lock", "kernel_image/flavours/full.lock"),
)


def font_cache_copied(code: str) -> str:
    """Return the code, preceded by a copy of the font cache, as the zygote makes it for every kernel."""
    start = (
        "import os, shutil\n"
        f"shutil.copytree({contract.MATPLOTLIB_CACHE!r}, '/tmp/matplotlib')\n"
        "os.environ['MPLCONFIGDIR'] = '/tmp/matplotlib'\n"
    )
    return start + code


@pytest.mark.usefixtures("engine")
def test_every_library_imports_without_a_warning() -> None:
    """The libraries of the original's executor, and ours, import without output."""
    code = f"""
import importlib
for library in {LIBRARIES.split()!r}:
    try:
        importlib.import_module(library)
    except Exception as error:
        print(library, repr(error))
"""
    assert run_python(font_cache_copied(code)) == ""


@pytest.mark.usefixtures("engine")
def test_nothing_for_debuggers_or_graphics_cards_is_installed() -> None:
    """debugpy would cost every kernel time, and CUDA takes gigabytes."""
    code = "import importlib.metadata as m; print(*(d.name for d in m.distributions()), sep='\\n')"
    names = run_python(code).lower().split()
    assert "pandas" in names
    assert [name for name in names if re.search("debugpy|nvidia|cuda", name)] == []


@pytest.mark.usefixtures("engine")
def test_modules_are_compiled_and_the_compiled_files_are_used() -> None:
    """A stale compiled file would slow down every start, because the read-only root prevents a new one."""
    code = """
import importlib.util, json, pathlib, runpy, struct, sys, sysconfig
packages = pathlib.Path(sysconfig.get_path("purelib"))
sources = [packages / "pandas/core/frame.py", packages / "IPython/core/interactiveshell.py"]
sources += [pathlib.Path(json.__file__), pathlib.Path(runpy.__file__)]
sources += pathlib.Path(importlib.util.find_spec("kernel_image").origin).parent.glob("*.py")
for source in sources:
    magic, flags, mtime, size = struct.unpack(
        "<4sIII", pathlib.Path(importlib.util.cache_from_source(source)).read_bytes()[:16]
    )
    stat = source.stat()
    if (magic, flags, mtime, size) != (
        importlib.util.MAGIC_NUMBER, 0, int(stat.st_mtime), stat.st_size
    ):
        print(source)
"""
    assert run_python(code) == ""


@pytest.mark.usefixtures("engine")
def test_charts_show_most_scripts_of_the_world() -> None:
    """The fonts have every character of these texts, in normal and in bold type."""
    code = f"""
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
figure = pyplot.figure()
for row, text in enumerate({list(SCRIPTS.values())!r}):
    figure.text(0, row / 20, text)
    figure.text(0.5, row / 20, text, fontweight="bold")
figure.savefig("/tmp/chart.png")
print(os.listdir("/tmp/matplotlib"))
"""
    # Only the copied cache is there: matplotlib has used it, and has neither made nor locked another.
    assert re.fullmatch(r"\['fontlist-[^']*\.json'\]\n", run_python(font_cache_copied(code)))


@pytest.mark.usefixtures("engine")
def test_charts_that_ask_for_another_systems_font_are_readable() -> None:
    """Chinese, Japanese and Korean fonts of Windows and macOS are replaced by fonts of the image."""
    code = """
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
for family in ("SimHei", "Microsoft JhengHei", "Hiragino Sans", "Malgun Gothic"):
    pyplot.rcParams["font.family"] = family
    figure, axes = pyplot.subplots()
    axes.set_title("销售额 매출액 グラフ", fontweight="bold")
    axes.plot([-1, 1])
    figure.savefig("/tmp/chart.png")
"""
    assert run_python(font_cache_copied(code)) == ""


@pytest.mark.usefixtures("engine")
def test_pillow_finds_fonts_by_their_file_name() -> None:
    """Text drawn on pictures uses the same fonts. DejaVu is also at its usual path."""
    code = """
from PIL import ImageFont
for name in (
    "NotoSansCJK-Regular.ttc", "NotoSansDevanagari.ttf", "DejaVuSans.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
):
    print(ImageFont.truetype(name, 20).getname()[0])
"""
    assert run_python(code).splitlines() == [
        "Noto Sans CJK JP",
        "Noto Sans Devanagari",
        "DejaVu Sans",
        "DejaVu Sans",
    ]


@pytest.mark.usefixtures("engine")
def test_every_uid_of_user_code_has_a_name_a_group_and_a_home() -> None:
    """Each has an account of its own in passwd and group, and names are unique."""
    code = f"""
import collections, grp, pwd
users = pwd.getpwall()
groups = {{(group.gr_name, group.gr_gid) for group in grp.getgrall()}}
ours = [user for user in users if user.pw_uid in {contract.USER_IDS!r}]
print({{user.pw_uid for user in ours}} == set({contract.USER_IDS!r}), max(user.pw_uid for user in users))
print({{user.pw_dir for user in ours}}, all(user.pw_uid == user.pw_gid for user in ours))
print({{(user.pw_name, user.pw_gid) for user in ours}} <= groups)
names = collections.Counter([user.pw_name for user in users])
print(max((names + collections.Counter(user.pw_uid for user in users)).values()))
"""
    found = run_python(code).splitlines()
    assert found == ["True 65534", f"{{{contract.HOME!r}}} True", "True", "1"]


def test_code_finds_its_own_account_and_home(service: Service) -> None:
    """`getpwuid`, `id`, `whoami`, `$USER` and `~` agree, for cells and for shell commands."""
    code = dedent("""
        import getpass, grp, os, pathlib, pwd
        user = pwd.getpwuid(os.getuid())
        name, home = user.pw_name, user.pw_dir
        print(name, getpass.getuser(), grp.getgrgid(os.getgid()).gr_name, pathlib.Path("/workspace").owner())
        print(home, pathlib.Path.home(), os.path.expanduser("~"), os.path.expanduser(f"~{name}"))
        for path in ("/workspace", home, "/tmp", "/dev/shm"):
            pathlib.Path(path, "mine").write_text("x")
            assert pathlib.Path(path, "mine").owner() == pathlib.Path(path).owner() == name, path
    """)
    names, homes = service.api.run(code)["stdout"].splitlines()
    assert re.fullmatch(r"(user\d+)( \1){3}", names), names
    assert homes == " ".join([contract.HOME] * 4)
    with new_session(service) as session:
        said = session.bash("whoami; id -un; id -gn; id -Gn; echo $USER; id -u; id -u $USER; echo ~")[
            "stdout"
        ]
    *names, own_id, same_id, home = said.splitlines()
    assert len(names) == 5 and len(set(names)) == 1, said
    assert (own_id == same_id, home) == (True, contract.HOME), said


@pytest.mark.usefixtures("engine")
def test_the_image_is_labelled_with_what_it_was_built_from() -> None:
    """`make run` compares the label to notice that kernel_image/ has changed."""
    label = '{{index .Config.Labels "code-interpreter.digest"}}'
    built = docker("image", "inspect", "--format", label, IMAGE).stdout
    assert re.fullmatch(r"[0-9a-f]{32}\n", built)


def wheel_of(folder: Path, package: str, source: str) -> Path:
    """Write a minimal wheel with one module, and return its path."""
    info = f"{package}-1.0.dist-info"
    members = {
        f"{package}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        record += f"{name},sha256={digest.rstrip('=')},{len(text.encode())}\n"
    wheel = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (members | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(name, text)
    return wheel


@pytest.fixture(scope="module")
def users_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build an image FROM ours with one more package, as docs/kernel-image.md describes; return its tag."""
    assert engine
    folder = tmp_path_factory.mktemp("image")
    wheel = wheel_of(folder, "greeting", 'TEXT = "hello from a package of my own"\n')
    (folder / "Dockerfile").write_text(
        f"FROM {IMAGE}\n"
        f"COPY {wheel.name} /tmp/\n"
        f"RUN pip install --no-cache-dir --no-index /tmp/{wheel.name}\n"
    )
    tag = f"code-interpreter-tests:{uuid.uuid4().hex}"
    built = docker("build", "--network", "none", "--tag", tag, str(folder))
    assert built.returncode == 0, built.stdout + built.stderr
    yield tag
    docker("image", "rm", "--force", tag)


def test_a_users_image_built_on_ours_has_the_users_package(users_image: str) -> None:
    """`FROM code-interpreter-kernel` and `pip install` suffice, and our libraries still import."""
    code = "import greeting, pandas; print(greeting.TEXT)"
    assert run_python(code, image=users_image) == "hello from a package of my own\n"


def test_the_service_runs_code_in_a_users_image(users_image: str, start_service: StartService) -> None:
    """PYTHON_EXECUTOR_DOCKER_IMAGE names the image in which executions run."""
    service = start_service(PYTHON_EXECUTOR_DOCKER_IMAGE=users_image, POOL_SIZE=1)
    result = service.api.execute("import greeting; print(greeting.TEXT)").json()
    assert result["stdout"] == "hello from a package of my own\n", result["stderr"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_pins_everything_with_hashes_and_names_no_address(lock: str) -> None:
    """Each requirement has one version and sha256 hashes, and no URL."""
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^\s*-(?!-hash=)|@", text, re.MULTILINE)
    requirements = text.replace("\\\n", " ").splitlines()
    assert len(requirements) > 20
    for requirement in requirements:
        assert re.fullmatch(
            r"[a-z0-9-]+==[\w.!+]+( ; [^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", requirement.strip()
        ), requirement[:100]
