"""The rules for requests from web pages: kernels serve pages of the service, MCP serves local pages."""

import pytest

from service.http.errors import ForeignOrigin, OriginRefused
from service.http.origin import LOCAL_PAGES, SAME_SERVICE


@pytest.mark.parametrize(
    "origin", [None, b"http://localhost:6274", b"http://127.0.0.1", b"https://[::1]:8", b"HTTP://LOCALHOST"]
)
def test_mcp_serves_programs_and_pages_of_this_machine(origin: bytes | None) -> None:
    """Programs other than browsers send no origin."""
    LOCAL_PAGES.check([] if origin is None else [(b"origin", origin)])


@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost.evil.example",
        b"http://127.0.0.1.evil.example",
        b"http://[::1",
        b"http://\xff",
        b"",
        b"null",
    ],
)
def test_mcp_refuses_pages_of_other_machines(origin: bytes) -> None:
    """Addresses that only look local, and origins that are not addresses, are refused."""
    with pytest.raises(OriginRefused):
        LOCAL_PAGES.check([(b"origin", origin)])
    with pytest.raises(OriginRefused):
        LOCAL_PAGES.check([(b"origin", origin), (b"origin", b"http://localhost")])


@pytest.mark.parametrize("origin", [None, b"http://code.example:8000", b"https://CODE.example:8000"])
def test_kernels_serve_programs_and_pages_of_the_service(origin: bytes | None) -> None:
    """The origin equals the host of the request. The scheme may differ behind a proxy."""
    headers = [(b"host", b"Code.example:8000")]
    SAME_SERVICE.check(headers if origin is None else [*headers, (b"origin", origin)])


@pytest.mark.parametrize(
    "origin", [b"http://localhost", b"http://code.example", b"null", b"", b"code.example:8000"]
)
def test_kernels_refuse_pages_of_other_servers(origin: bytes) -> None:
    """A page of another port, or of another host name, is a page of another server."""
    with pytest.raises(ForeignOrigin):
        SAME_SERVICE.check([(b"host", b"code.example:8000"), (b"origin", origin)])
