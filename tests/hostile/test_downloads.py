"""Downloads in a browser: a file of any content and name is saved and not run."""

import re
from collections.abc import Iterator

import httpx
import pytest

from service.files.download_headers import content_disposition
from tests.hostile.test_workspace_files import quoted
from tests.support.process import Service
from tests.support.session import Session

PAGE = b"<!DOCTYPE html><script>alert(document.cookie)</script>"
NAMES = [
    "page.html",
    "vector.svg",
    'quotes".html',
    "semi;colon=.html",
    "per%cent%22.html",
    "Grüße 日本語 🎉.html",
    "\u202elmth.exe",
    "spaces  and\ttabs.html",
    "a'b*c.html",
    "=?utf-8?Q?x?=.html",
    "n" * 250 + ".html",
]
DISPOSITION = re.compile(
    r'attachment; filename="([ !#-\[\]-~]*)"(?:; filename\*=UTF-8\'\'([A-Za-z0-9%._~-]+))?'
)
"""RFC 6266 with the extended notation of RFC 5987: a quoted ASCII name, then the exact name."""


def name_of(response: httpx.Response) -> str:
    """Return the name under which a browser saves the answer. The headers must forbid everything else."""
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.headers["content-type"] == "application/octet-stream"
    found = DISPOSITION.fullmatch(response.headers["content-disposition"])
    assert found, response.headers["content-disposition"]
    plain, exact = found.groups()
    return httpx.URL(f"http://x/?n={exact}").params["n"] if exact else plain


@pytest.fixture
def emptied_session(session: Session) -> Iterator[Session]:
    """The session; its workspace is emptied after the test."""
    yield session
    session.bash("find . -mindepth 1 -delete")


@pytest.mark.parametrize("name", NAMES)
def test_stored_page_is_downloaded_under_its_exact_name(target: Service, name: str) -> None:
    """This holds for GET and HEAD, for the whole file, for a range, and for a conditional request."""
    if "\t" in name:
        name = name.replace("\t", " ")  # the name of an upload must not have control characters
    http = target.api.http
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\\", "\\\\").replace('"', '\\"').encode()
        + b'"\r\nContent-Type: text/html\r\n\r\n'
        + PAGE
        + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    stored = http.post("/v1/files", content=body, headers=headers)
    assert stored.status_code == 201, stored.text
    address = f"/v1/files/{stored.json()['file_id']}"
    whole = http.get(address)
    assert (whole.content, name_of(whole)) == (PAGE, name)
    assert name_of(http.head(address)) == name
    part = http.get(address, headers={"Range": "bytes=3-8"})
    assert (part.status_code, part.content, name_of(part)) == (206, PAGE[3:9], name)
    assert name_of(http.get(address, headers={"If-None-Match": whole.headers["etag"]})) == name
    assert http.delete(address).status_code == 204


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../x/.bashrc", ".bashrc"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\x\\run.bat", "run.bat"),
        ("C:\\Users\\x\\a.txt", "a.txt"),
        ("a/b\\c/日本.txt", "日本.txt"),
        ("folder/", "download"),
        ("x/..", "download"),
        (".", "download"),
    ],
)
def test_folders_are_left_out_of_the_name_of_a_download(name: str, saved: str) -> None:
    """No client saves the file elsewhere than in the folder that it chose."""
    found = DISPOSITION.fullmatch(content_disposition(name))
    assert found, content_disposition(name)
    plain, exact = found.groups()
    assert (httpx.URL(f"http://x/?n={exact}").params["n"] if exact else plain) == saved


@pytest.mark.parametrize("name", NAMES)
def test_page_in_a_workspace_is_downloaded_under_its_exact_name(emptied_session: Session, name: str) -> None:
    """The name does not have the folders of the path."""
    address = f"/files/some/folder/{quoted(name)}"
    assert emptied_session.call("PUT", address, content=PAGE).status_code == 201
    for method in ("GET", "HEAD"):
        response = emptied_session.call(method, address)
        assert response.status_code == 200
        assert name_of(response) == name
    assert emptied_session.call("GET", address).content == PAGE


def test_files_and_images_of_a_cell_are_downloads(emptied_session: Session, target: Service) -> None:
    """An SVG image with a script is downloaded like any other file."""
    result = emptied_session.run(
        "with open('page.html', 'w') as file: count = file.write('<script>alert(1)</script>')\n"
        "display({'image/svg+xml': '<svg><script>alert(1)</script></svg>'}, raw=True)"
    )
    image = result["outputs"][0]["metadata"]["image/svg+xml"]["file_id"]
    for file_id in (result["files"][0]["file_id"], image):
        assert name_of(target.api.http.get(f"/v1/files/{file_id}")) in ("page.html", "output-1.svg")
