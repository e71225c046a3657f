"""The examples, run as the README says."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

from tests.support.process import ROOT, Service, free_port

EXAMPLES = ROOT / "examples"
PNG = b"\x89PNG\r\n\x1a\n"
SECONDS = 120
TIMEOUT = "30"
"""Time limit of the code, in seconds, so that a busy machine does not fail the tests."""
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}sheet"


def run_example(name: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example in `folder`. It can import only the standard library."""
    return subprocess.run(
        [sys.executable, "-S", str(EXAMPLES / name), "--url", url, "--timeout", TIMEOUT],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def sheets(workbook: Path) -> list[str]:
    """Return the names of the sheets of an xlsx file, after a check that all its parts are readable."""
    with ZipFile(workbook) as parts:
        assert parts.testzip() is None
        book = ElementTree.fromstring(parts.read("xl/workbook.xml"))
        return [sheet.attrib["name"] for sheet in book.iter(SHEET)]


def test_analysis_downloads_a_chart_and_a_spreadsheet(service: Service, tmp_path: Path) -> None:
    """The example uploads a data set, and prints text and saves a PNG and a workbook."""
    ended = run_example("analyse.py", service.base_url, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "178 wines, 13 measurements, 3 cultivars" in ended.stdout
    assert "cultivar recognised: 98.3%, 3 wines mistaken" in ended.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["wine.png", "wine.xlsx"]
    assert (tmp_path / "out" / "wine.png").read_bytes().startswith(PNG)
    assert sheets(tmp_path / "out" / "wine.xlsx") == ["Wines", "Means", "Model"]


def test_stream_shows_progress_and_a_figure(service: Service, tmp_path: Path) -> None:
    """The whole progress bar is printed, and the figure is saved before the end is printed."""
    ended = run_example("stream.py", service.base_url, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("pi is about") == 40
    assert ended.stdout.index("<figure: ") < ended.stdout.index("Ended with exit code 0")
    assert (tmp_path / "out" / "figure-1.png").read_bytes().startswith(PNG)


def test_example_without_a_service_says_what_to_do(tmp_path: Path) -> None:
    """The example prints one sentence and no traceback, and exits with code 1."""

    for name in ("analyse.py", "stream.py"):
        ended = run_example(name, f"http://127.0.0.1:{free_port()}", tmp_path)
        assert ended.returncode == 1
        assert ended.stdout == ""
        assert len(ended.stderr.strip().splitlines()) == 1
        assert "start one with `make run`" in ended.stderr
