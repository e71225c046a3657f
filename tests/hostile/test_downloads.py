"""Downloads in a browser: whatever is in the file, and whatever it is called, it is saved and not run."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.hostile.test_workspace_files import quoted
from tests.support.process import Service
from tests.support.session import Session

pytestmark = pytest.mark.timeout(60)

PAGE = b"<!DOCTYPE html><script>alert(document.cookie)</script>"
NAMES = [
    "page.html",
    "vector.svg",
    'quotes".html',
    "back\\slash.html",
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
"""RFC 6266, with the extended notation of RFC 5987: a quoted string of plain ASCII, and then what it is."""


def name_of(response: httpx.Response) -> str:
    """The name under which a browser saves the answer, which it must not do anything else with."""
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.headers["content-type"] == "application/octet-stream"
    found = DISPOSITION.fullmatch(response.headers["content-disposition"])
    assert found, response.headers["content-disposition"]
    plain, exact = found.groups()
    return httpx.URL(f"http://x/?n={exact}").params["n"] if exact else plain


@pytest.fixture
def own(session: Session) -> Iterator[Session]:
    """The session, with an empty workspace."""
    yield session
    session.bash("find . -mindepth 1 -delete")


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_page_is_a_file_to_save(target: Service, name: str) -> None:
    """By GET and HEAD, whole, in part and when it is there already, under its exact name."""
    if "\t" in name:
        name = name.replace("\t", " ")  # an upload's name may have no control characters
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


@pytest.mark.parametrize("name", NAMES)
def test_a_sessions_page_is_a_file_to_save(own: Session, name: str) -> None:
    """Also where it lies in the working folder, without the folders it is in."""
    address = f"/files/some/folder/{quoted(name)}"
    assert own.call("PUT", address, content=PAGE).status_code == 201
    for method in ("GET", "HEAD"):
        response = own.call(method, address)
        assert response.status_code == 200
        assert name_of(response) == name
    assert own.call("GET", address).content == PAGE


def test_what_code_wrote_and_drew_is_a_file_to_save(own: Session, target: Service) -> None:
    """Outputs and images of a cell, SVG with a script in it among them, are downloads like any other."""
    result = own.run(
        "with open('page.html', 'w') as file: count = file.write('<script>alert(1)</script>')\n"
        "display({'image/svg+xml': '<svg><script>alert(1)</script></svg>'}, raw=True)"
    )
    image = result["outputs"][0]["metadata"]["image/svg+xml"]["file_id"]
    for file_id in (result["files"][0]["file_id"], image):
        assert name_of(target.api.http.get(f"/v1/files/{file_id}")) in ("page.html", "output-1.svg")
