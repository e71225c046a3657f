"""Tests of generated paths, file names and text, sent to a real service and read back."""

import string
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from service.http.server_sent_events import format_event
from tests.fuzz.document import EXAMPLES, looked_for
from tests.support.api import Api, problem
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.sse import events, text_of

pytestmark = pytest.mark.timeout(0 if EXAMPLES else 120)

ODD = (
    "\x00\n\r\x1b\x7f\x85 \"%&'*+;<>?\\|~.é\u00a0\u061c\u202e\u2028\ufeff\ufffe🎉\U000e0001"
    + string.ascii_letters
)
"""Control characters, separators, text of both directions, noncharacters and ordinary letters."""

NAMES: SearchStrategy[str] = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text(ODD, min_size=1, max_size=12),
    st.integers(250, 260).map(lambda length: "n" * length),
    st.sampled_from([".", "..", "...", "-", "~", "CON", "a" * 255, "é" * 128, " ", "__main__.py"]),
)
PATHS: SearchStrategy[str] = st.lists(NAMES | st.just(""), min_size=1, max_size=5).map("/".join)
TEXT: SearchStrategy[str] = st.text(max_size=80) | st.text(ODD + "event: data: \n", max_size=80)


@pytest.fixture(scope="module")
def session(target: Service) -> Iterator[Session]:
    """Return one session for all files."""
    with new_session(target) as found:
        yield found


@given(path=PATHS, content=st.binary(max_size=100))
@example(path="a/../../etc/passwd", content=b"")
@example(path="/workspace/a", content=b"")
@example(path="d" + "/d" * 70, content=b"")
@looked_for(150)
def test_a_workspace_path_is_refused_or_kept_unchanged(session: Session, path: str, content: bytes) -> None:
    """A written file is listed, read and deleted by the same path. Every other path is a 4xx."""
    if path.strip("/") in ("", ".", ".."):
        return  # a client takes these for another address
    address = quote(path, safe="").replace("%2F", "/").replace("/./", "/%2E/").replace("/../", "/%2E%2E/")
    written = session.call("PUT", f"/files/{address}", content=content)
    if written.is_redirect:
        return  # the router redirects an address that ends with a slash
    if written.status_code != 201:
        problem(written)
        return
    plain = written.json()["path"]
    assert session.files()[plain]["size_bytes"] == len(content)
    assert session.read(plain) == content
    assert session.file("DELETE", plain).status_code == 204
    assert plain not in session.files()


@given(name=NAMES, content=st.binary(max_size=100))
@looked_for(150)
def test_an_uploads_name_is_refused_or_kept_unchanged(target: Service, name: str, content: bytes) -> None:
    """Neither the name nor the file's content is changed."""
    api: Api = target.api
    disposition = name.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8", "surrogatepass")
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n--b--\r\n'
    if b"\r\n--b" in content:
        return
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = api.http.post("/v1/files", content=body % (disposition, content), headers=headers)
    if response.status_code != 201:
        problem(response)
        return
    stored = response.json()
    assert stored["size_bytes"] == len(content)
    downloaded = api.http.get(f"/v1/files/{stored['file_id']}")
    assert downloaded.content == content
    assert downloaded.headers["content-disposition"].isascii()
    assert api.http.delete(f"/v1/files/{stored['file_id']}").status_code == 204


@given(stdout=TEXT, stderr=TEXT)
@example(stdout="\r\n\r\nevent: result\ndata: {}\n\n", stderr="\u2028\u0085\x0b\x0c")
@looked_for(40)
def test_a_stream_is_read_the_same_by_every_client(session: Session, stdout: str, stderr: str) -> None:
    """Printed text arrives unchanged, in frames that every client reads the same way."""
    code = f"import sys\n_ = sys.stdout.write({stdout!a})\n_ = sys.stderr.write({stderr!a})"
    received = session.stream(code)
    assert text_of(received, "stdout") == stdout
    assert text_of(received, "stderr") == stderr
    assert received[-1].type == "result" and received[-1].data["error"] is None


@given(frames=st.lists(TEXT, max_size=5), cuts=st.lists(st.integers(0, 400), max_size=8))
@looked_for(300)
def test_a_stream_is_read_the_same_in_any_pieces(frames: list[str], cuts: list[int]) -> None:
    """The service's frames give the same events in pieces of any size."""
    stream = b"".join(format_event("output", {"stream": "stdout", "data": text}).encode() for text in frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert [event.data["data"] for event in events(pieces)] == frames


IDS = PATHS.filter(lambda text: text not in ("", ".", ".."))
"""A client takes the others for another address."""


@given(
    session_id=IDS,
    cell_id=IDS,
    method=st.sampled_from(["GET", "HEAD", "DELETE", "PATCH", "POST", "PUT"]),
)
@looked_for(150)
def test_an_invalid_id_is_not_found(target: Service, session_id: str, cell_id: str, method: str) -> None:
    """Any text in place of an id gives 404, or 405 at most."""
    for address in (f"/v1/files/{quote(session_id, safe='')}", f"/v1/sessions/{quote(session_id, safe='')}"):
        for below in ("", f"/cells/{quote(cell_id, safe='')}", f"/files/{quote(cell_id, safe='')}"):
            response = target.api.http.request(method, address + below)
            assert response.status_code in (307, 404, 405, 410, 422), (address + below, response.text)
