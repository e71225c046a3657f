"""The pages `/docs` and `/redoc` in a browser that reaches nothing but the service."""

import hashlib
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, expect, sync_playwright

from service.api_pages.routes import assets
from tests.routes.files_support import RunningApp, serve_app
from tests.support.process import ROOT
from tests.support.settings import make_settings

VENDOR = ROOT / "service" / "api_pages" / "static" / "vendor"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Start the application with keys. The pages need none."""
    with serve_app(make_settings(tmp_path_factory.mktemp("pages"), api_keys="ada:x")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium, with a resolver that finds no name."""
    path = shutil.which("chromium")
    assert path, "these tests need the package chromium; `make test` installs it"
    offline = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=offline)
        yield chromium
        chromium.close()


@pytest.mark.parametrize(
    ("path", "operations"), [("/docs", ".opblock-summary-path"), ("/redoc", "[id^='operation/']")]
)
def test_page_shows_every_call_without_a_network(
    app: RunningApp, browser: Browser, path: str, operations: str
) -> None:
    """The page asks no other site, and its policy blocks nothing that it needs."""
    asked: list[str] = []
    blocked: list[str] = []

    def note_request(request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            asked.append(request.url)

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            blocked.append(message.text)

    with browser.new_context() as context:
        page = context.new_page()
        page.on("request", note_request)
        page.on("console", note_message)
        page.on("pageerror", lambda error: blocked.append(str(error)))
        page.goto(str(app.http.base_url.join(path)))
        document = app.http.get("/openapi.json").json()
        calls = sum(len(methods) for methods in document["paths"].values())
        expect(page.locator(operations)).to_have_count(calls, timeout=60_000)
        expect(page.get_by_text("/v1/files", exact=True).first).to_be_visible()
    assert blocked == []
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(str(app.http.base_url)).netloc}


def test_policy_allows_scripts_of_the_service_only(app: RunningApp) -> None:
    """The pages have no inline script, and no other site may frame them."""
    assert {"/docs", "/redoc"} <= set(assets())
    for path in assets():
        response = app.http.get(path)
        assert response.status_code == 200, path
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in response.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "<script>" not in response.text[:2000]
        assert "unsafe" not in policy["style-src"] or path == "/redoc"


def test_libraries_are_the_committed_ones() -> None:
    """Each file has the SHA-256 sum that was written when it was fetched."""
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()[1:]
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    files = {file.name: file.read_bytes() for file in VENDOR.iterdir() if file.name != "SHA256SUMS"}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == sums
