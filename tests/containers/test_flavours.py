"""Tests of the libraries, programs and locales that the flavours of the kernel image add."""

import base64
import json
from typing import Final

import pytest

from tests.conftest import StartService
from tests.support.engine import IMAGE, Engine
from tests.support.kernel_images import docker, run_python
from tests.support.process import ROOT

PROGRAMS: Final = {
    "zip -q a.zip a.txt && unzip -p a.zip": "text",
    "file -b a.txt": "ASCII text, with no line terminators",
    'jq -r .b <<<\'{"b": "text"}\'': "text",
    "git init -q r && git -C r -c user.name=a -c user.email=b commit -q --allow-empty -m text &&"
    " git -C r log --format=%s": "text",
    'python -c \'from fpdf import FPDF; p = FPDF(); p.add_page(); p.set_font("Times"); p.cell(text="text");'
    ' p.output("a.pdf")\' && pdftotext a.pdf - | head -1': "text",
    "pdftoppm -png a.pdf page && file -b page-1.png | cut -c1-14": "PNG image data",
}
"""Shell commands that run one after the other in a folder with `a.txt`, each with what it prints."""

LOCALES: Final = {
    "en_US.UTF-8": "1,234.5 Sunday",
    "en_GB.utf8": "1,234.5 Sunday",
    "de_DE.UTF-8": "1.234,5 Sonntag",
    "de_DE": "1.234,5 Sonntag",
    "de_CH.UTF-8": "1\N{RIGHT SINGLE QUOTATION MARK}234.5 Sonntag",
    "fr_FR.UTF-8": "1\N{NARROW NO-BREAK SPACE}234,5 dimanche",
    "es_ES.UTF-8": "1.234,5 domingo",
    "pt_BR.UTF-8": "1.234,5 domingo",
    "ja_JP.UTF-8": "1,234.5 日曜日",
    "zh_CN.UTF-8": "1,234.5 星期日",
    "ko_KR.UTF-8": "1,234.5 일요일",
    "ru_RU.UTF-8": "1\N{NARROW NO-BREAK SPACE}234,5 Воскресенье",
    "hi_IN.UTF-8": "1,234.5 रविवार",
    "C.UTF-8": "1234.5 Sunday",
}
"""Locales, and how each writes a number and a day of the week."""

FULL_IMAGE: Final = "code-interpreter-kernel:full"


@pytest.mark.usefixtures("engine")
def test_programs_run() -> None:
    """They find their libraries and data, although their packages are only unpacked."""
    commands = json.dumps(list(PROGRAMS))
    code = f"""
import os, pathlib, subprocess
os.chdir("/tmp")
pathlib.Path("a.txt").write_text("text")
for command in {commands}:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    print((done.stdout + done.stderr).strip())
"""
    assert run_python(code).splitlines() == list(PROGRAMS.values())


@pytest.mark.usefixtures("engine")
def test_common_locales_write_numbers_and_days_in_their_way() -> None:
    """Each locale of the image's list can be set, with and without its encoding."""
    listed = (ROOT / "kernel_image/flavours/locales").read_text().splitlines()[1:]
    code = f"""
import locale, time
for name in {LOCALES!r}:
    locale.setlocale(locale.LC_ALL, name)
    print(locale.format_string("%.1f", 1234.5, grouping=True), time.strftime("%A", time.gmtime(3 * 86400)))
for name in {listed!r}:
    for full_name in (name, f"{{name}}.UTF-8"):
        locale.setlocale(locale.LC_ALL, full_name)
        assert locale.nl_langinfo(locale.CODESET) == "UTF-8", full_name
        assert locale.strxfrm("b") > locale.strxfrm("A"), full_name
"""
    assert run_python(code).splitlines() == list(LOCALES.values())


@pytest.mark.usefixtures("engine")
def test_tables_are_written_and_read_in_many_formats() -> None:
    """Parquet, Feather, HDF5, OpenDocument, SQL and maps' shapes work without a network."""
    code = """
import h5py, pandas, sqlalchemy, shapely
table = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
table.to_parquet("/tmp/t.parquet"); print(pandas.read_parquet("/tmp/t.parquet").equals(table))
table.to_feather("/tmp/t.feather"); print(pandas.read_feather("/tmp/t.feather").equals(table))
table.to_excel("/tmp/t.ods", index=False); print(pandas.read_excel("/tmp/t.ods").equals(table))
database = sqlalchemy.create_engine("sqlite:////tmp/t.db")
table.to_sql("t", database, index=False); print(pandas.read_sql("select * from t", database).equals(table))
with h5py.File("/tmp/t.h5", "w") as file: file["a"] = [1, 2]
print(shapely.Point(0, 0).buffer(1).contains(shapely.Point(0.5, 0)))
"""
    assert run_python(code).split() == ["True"] * 5


@pytest.mark.usefixtures("engine")
def test_default_image_has_at_most_its_size() -> None:
    """The size limit of the default flavour is 1.4 GB."""
    form = '{{.Size}} {{index .Config.Labels "code-interpreter.flavour"}}'
    size, flavour = docker("image", "inspect", "--format", form, IMAGE).stdout.split()
    assert flavour in ("slim", "default", "full")
    assert flavour == "full" or int(size) <= 1_400_000_000


@pytest.fixture(scope="module")
def full_image(engine: Engine) -> str:
    """The image of the full flavour; the test is skipped if nobody has built it."""
    assert engine
    label = '{{index .Config.Labels "code-interpreter.flavour"}}'
    if docker("image", "inspect", "--format", label, FULL_IMAGE).stdout.strip() != "full":
        pytest.skip(f"build it: KERNEL_IMAGE_FLAVOUR=full IMAGE={FULL_IMAGE} kernel_image/build")
    return FULL_IMAGE


def test_full_image_reads_text_in_pictures_sound_and_languages(full_image: str) -> None:
    """Its libraries and programs work without a network, a model or a data set."""
    code = """
import subprocess
import duckdb, geopandas, librosa, nltk, numpy, polars, pytesseract, soundfile, spacy
from PIL import Image, ImageDraw, ImageFont
image = Image.new("L", (300, 60), "white")
ImageDraw.Draw(image).text((10, 10), "Hello 42", font=ImageFont.truetype("DejaVuSans.ttf", 32))
print(pytesseract.image_to_string(image).strip())
print(duckdb.sql("select 42 as a").fetchall()[0][0], polars.DataFrame({"a": [1, 2]})["a"].sum())
soundfile.write("/tmp/a.wav", numpy.sin(numpy.arange(22050) / 22050 * 440 * 2 * numpy.pi), 22050)
sound, rate = librosa.load("/tmp/a.wav", sr=None)
print(rate, round(float(librosa.yin(sound, fmin=300, fmax=600, sr=rate).mean()) / 10))
print([token.text for token in spacy.blank("en")("It works.")], nltk.PorterStemmer().stem("running"))
frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([0], [0]), crs=4326)
frame.to_file("/tmp/a.gpkg"); print(len(geopandas.read_file("/tmp/a.gpkg").to_crs(3857)))
subprocess.run(["ffmpeg", "-loglevel", "error", "-y", "-i", "/tmp/a.wav", "/tmp/a.mp3"], check=True)
print(soundfile.info("/tmp/a.mp3").samplerate)
"""
    assert run_python(code, image=full_image, warnings="ignore").splitlines() == [
        "Hello 42",
        "42 3",
        "22050 44",
        "['It', 'works', '.'] run",
        "1",
        "22050",
    ]


def test_full_image_draws_figures_of_plotly(full_image: str, start_service: StartService) -> None:
    """Kaleido's own browser draws the image, inside the limits of a sandbox."""
    service = start_service(
        PYTHON_EXECUTOR_DOCKER_IMAGE=full_image,
        POOL_SIZE=1,
        MEMORY_LIMIT_MB=512,
        MAX_EXEC_TIMEOUT_MS=30_000,
        CPU_TIME_LIMIT_SEC=20,
    )
    code = "import plotly.graph_objects as go\ngo.Figure(go.Bar(x=['a'], y=[1])).show()"
    result = service.api.run(code, timeout_ms=30_000)
    (output,) = result["outputs"]
    assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG"), result
