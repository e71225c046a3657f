"""The page's files and the headers that they are served with, tested without a browser."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.page.routes import assets
from tests.routes.files_support import RunningApp, serve_app
from tests.support.process import ROOT
from tests.support.settings import make_settings

PAGE = ROOT / "service" / "page" / "static"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Start the application with keys. The page's files need none."""
    settings = make_settings(tmp_path_factory.mktemp("page"), api_keys="ada:x", max_exec_timeout_ms=1234)
    with serve_app(settings) as running:
        yield running


def test_every_file_is_served_with_restrictive_headers(app: RunningApp) -> None:
    """The headers forbid type guessing, referrers, framing by other sites, and scripts from other sites."""
    assert len(assets()) > 10
    for path in assets():
        response = app.http.get(path)
        assert response.status_code == 200
        headers = response.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "'unsafe-eval'" not in policy
        assert "http" not in policy and "*" not in policy
        if path != "/page/frame.html":
            assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert "require-trusted-types-for 'script'" in policy
    assert app.http.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert app.http.get("/page/scripts/app.js").headers["content-type"].startswith("text/javascript")


def test_the_frame_allows_its_one_script_and_no_network(app: RunningApp) -> None:
    """The frame has no origin, even if opened directly. The policy names its script by hash."""
    response = app.http.get("/page/frame.html")
    policy = dict(
        part.strip().partition(" ")[::2] for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["sandbox"] == "allow-scripts"
    (script,) = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'"
    assert {policy[name] for name in ("img-src", "media-src", "font-src")} == {"data:"}
    assert policy["form-action"] == policy["base-uri"] == "'none'"
    assert "connect-src" not in policy and "frame-src" not in policy


def test_unchanged_file_is_not_sent_again(app: RunningApp) -> None:
    """A known entity tag gets 304. Files are compressed if the client accepts gzip. Other methods get 405."""
    first = app.http.get("/page/vendor/editor.bundle.js")
    assert first.headers["content-encoding"] == "gzip"
    second = app.http.get("/page/vendor/editor.bundle.js", headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["content-security-policy"]
    plain = app.http.get("/page/vendor/editor.bundle.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == first.content == (PAGE / "vendor" / "editor.bundle.js").read_bytes()
    head = app.http.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert app.http.post("/").status_code == 405
    assert app.http.get("/page/nothing.js").status_code == 401


def test_page_gets_the_limits_without_a_key(app: RunningApp) -> None:
    """The page needs these settings before it has a key. They contain no key."""
    response = app.http.get("/page/settings.json")
    assert response.json().items() >= {"needs_key": True, "max_exec_timeout_ms": 1234}.items()
    assert response.headers["cache-control"] == "no-store"


def test_the_page_loads_nothing_from_other_sites() -> None:
    """The page's own files have no address of another site, and no inline script, style or handler."""
    for file in PAGE.iterdir():
        if file.is_dir():
            continue
        text = file.read_text()
        addresses = set(re.findall(r"https?://[^\s\"'`<>)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name
        if file.name == "index.html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)


def test_bundles_name_their_libraries_and_licences() -> None:
    """Each bundle lists its libraries in their locked versions. The lock file has no addresses."""
    lock = json.loads((ROOT / "scripts" / "editor" / "package-lock.json").read_text())
    versions = {
        path.removeprefix("node_modules/"): package for path, package in lock["packages"].items() if path
    }
    assert all(package["integrity"] and "resolved" not in package for package in versions.values())
    for name, libraries in {"editor": 10, "markdown": 1}.items():
        header = (PAGE / "vendor" / f"{name}.bundle.js").read_text().partition("*/")[0]
        found = re.findall(r"((?:@[\w-]+/)?[\w-]+) (\d+\.\d+\.\d+)", header)
        assert len(found) >= libraries and "Permission is hereby granted" in header
        for library, version in found:
            assert versions[library]["version"] == version


def test_an_installed_service_has_the_page(tmp_path: Path) -> None:
    """The wheel contains every file of the page, vendored libraries included."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    source = tmp_path / "source"
    names = subprocess.run(
        ["git", "ls-files", "service", "sessions", "kernel_image", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in names.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {file.relative_to(ROOT).as_posix() for file in PAGE.rglob("*") if file.is_file()} <= inside
