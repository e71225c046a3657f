"""The rules for requests of browsers: which hosts are known, and which pages may send requests."""

from typing import Any

import pytest
from starlette.types import Scope

from service.http.browsers import BrowserRule, KnownHosts, RuleWithKeys, RuleWithoutKeys
from service.http.errors import BrowserRefused, ForeignOrigin, HostNotAllowed, OriginRefused

HOSTS = KnownHosts(("code.example", "*.Wild.example."), "workstation.lan")
KEYED, OPEN = RuleWithKeys(), RuleWithoutKeys(HOSTS)
HERE = "localhost:8000"


def request(path: str, *headers: tuple[str, str], method: str = "POST") -> Scope:
    """Return a request; of a WebSocket if the method says so."""
    scope: dict[str, Any] = {
        "type": "websocket" if method == "WEBSOCKET" else "http",
        "path": path,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    return scope if method == "WEBSOCKET" else scope | {"method": method}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "192.168.1.20:8000",
        "[::1]:8000",
        "[fe80::1%eth0]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "localhost:",
        "localhost.:8000",
        "code-interpreter:8000",
        "a.b.localhost",
        "interpreter.tools.svc",
        "interpreter.tools.svc.cluster.local:80",
        "workstation.lan",
        "code.example:443",
        "code.example.",
        "any.wild.example",
        "a.b.wild.example:1",
    ],
)
def test_host_is_known(host: str) -> None:
    """These are addresses, names that only this network resolves, and names of the settings."""
    assert host in HOSTS


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8000",
        "evil.example",
        "com.",
        "evil.example.:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "1.2.3.4.",
        "[::1",
        "[::1]x",
        "[evil.example]",
        "[127.0.0.1]",
        "::1",
        "wild.example",
        "badwild.example",
        "not-code.example",
        "sub.code.example",
        "localhost@evil.example",
        "evil.example@localhost",
        "evil.example/localhost",
        "evil.example, localhost",
        "evil example",
        "localhost:80:80",
        "localhost:port",
        "xn--vl-dka.example",
        "\xe9vil.localhost",
        "evil\0.localhost",
    ],
)
def test_host_is_unknown(host: str) -> None:
    """A foreign page could have such a name, or it is no name."""
    assert host not in HOSTS


@pytest.mark.parametrize("allowed", ["", "localhost", "evil.example, evil.example", "http://localhost:8000"])
@pytest.mark.parametrize("path", ["/", "/v1/files", "/api/kernels", "/mcp", "/health"])
def test_programs_are_served_under_any_name_without_keys(allowed: str, path: str) -> None:
    """Programs send none of the headers by which a browser is recognized."""
    hosts = [("Host", host) for host in allowed.split(", ") if host]
    for agent in ("python-requests/2", "curl/8.5.0", "ELB-HealthChecker/2.0"):
        OPEN.check(request(path, ("Host", "evil.example"), *hosts, ("User-Agent", agent)))
    OPEN.check(request(path, *hosts))
    OPEN.check(request(path, *hosts, method="WEBSOCKET"))


@pytest.mark.parametrize(
    "sign",
    [
        ("Origin", "http://evil.example"),
        ("Referer", "http://evil.example/x"),
        ("Accept-Language", "*"),
        ("Sec-Fetch-Dest", "empty"),
        ("Sec-Fetch-Anything", ""),
        ("User-Agent", "MOZILLA/5.0 (X11; Linux x86_64)"),
        ("User-Agent", "Some/1 (like Mozilla/5.0)"),
    ],
)
@pytest.mark.parametrize("hosts", [[], ["evil.example"], ["localhost", "evil.example"]])
def test_browser_must_use_a_known_host_without_keys(sign: tuple[str, str], hosts: list[str]) -> None:
    """The error has the name and the setting. A request without a host has no known one."""
    for method in ("GET", "POST", "WEBSOCKET"):
        with pytest.raises(HostNotAllowed, match="ALLOWED_HOSTS") as refused:
            OPEN.check(request("/v1/files", *(("Host", host) for host in hosts), sign, method=method))
        assert refused.value.host == "".join(hosts[-1:])


@pytest.mark.parametrize(
    ("host", "origin", "is_served"),
    [
        (HERE, f"http://{HERE}", True),
        (HERE, f"HTTP://{HERE.upper()}", True),
        (HERE, f"https://{HERE}", True),
        ("localhost", "http://localhost", True),
        ("localhost:80", "http://localhost", True),
        ("localhost:443", "https://localhost", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        (HERE, "http://localhost:8001", False),
        (HERE, "http://localhost", False),
        (HERE, "http://127.0.0.1:8000", False),
        ("localhost:80", "https://localhost", False),
        (HERE, f"http://{HERE}/", False),
        (HERE, f"http://user@{HERE}", False),
        (HERE, HERE, False),
        (HERE, "null", False),
        (HERE, "", False),
        (HERE, "http://", False),
        (HERE, "file://", False),
    ],
)
def test_page_is_served_if_its_origin_is_the_host(host: str, origin: str, is_served: bool) -> None:
    """The scheme may differ, because a proxy may end TLS. Kernels have the same rule where keys are set."""
    given = request("/api/kernels", ("Host", host), ("Origin", origin))
    twice = request("/api/kernels", ("Host", host), ("Origin", f"http://{host}"), ("Origin", origin))
    for rule in (OPEN, KEYED):
        for asked in (given, twice):
            if is_served:
                rule.check(asked)
            else:
                with pytest.raises(ForeignOrigin):
                    rule.check(asked)


def test_origin_of_one_of_two_hosts_is_foreign() -> None:
    """Otherwise a page could choose the host that is checked."""
    both = [("Host", HERE), ("Host", "localhost:9"), ("Origin", f"http://{HERE}")]
    for rule in (OPEN, KEYED):
        with pytest.raises(ForeignOrigin):
            rule.check(request("/api/kernels", *both))


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ([], {"GET", "POST", "WEBSOCKET"}),
        ([("Sec-Fetch-Site", "same-origin")], {"GET", "POST", "WEBSOCKET"}),
        ([("Sec-Fetch-Site", "none")], {"GET", "POST", "WEBSOCKET"}),
        ([("Sec-Fetch-Mode", "cors")], {"GET", "POST", "WEBSOCKET"}),
        ([("Referer", f"http://{HERE}/page?x")], {"GET", "POST", "WEBSOCKET"}),
        ([("Referer", "http://evil.example/")], {"GET"}),
        ([("Referer", "http://localhost:3000")], {"GET"}),
        ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")], {"GET"}),
        ([("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "navigate")], {"GET"}),
        ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], set()),
        ([("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "no-cors")], set()),
        ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "websocket")], set()),
        ([("Sec-Fetch-Site", "Cross-Site")], set()),
    ],
)
def test_page_without_an_origin_may_only_link_to_the_service(
    headers: list[tuple[str, str]], served: set[str]
) -> None:
    """Images, scripts and the forms of old browsers have no Origin, and come from pages of anybody."""
    for method in ("GET", "POST", "WEBSOCKET"):
        asked = request("/v1/files", ("Host", HERE), ("Accept-Language", "en"), *headers, method=method)
        if method in served:
            OPEN.check(asked)
        else:
            with pytest.raises(ForeignOrigin):
                OPEN.check(asked)


@pytest.mark.parametrize("rule", [OPEN, KEYED], ids=["without keys", "with keys"])
@pytest.mark.parametrize("origin", [None, "http://localhost:6274", "http://127.0.0.1", "https://[::1]:8"])
def test_mcp_serves_programs_and_pages_of_this_machine(rule: BrowserRule, origin: str | None) -> None:
    """Web programs for MCP run on this machine, on a port of their own."""
    rule.check(request("/mcp", ("Host", HERE), *([("Origin", origin)] if origin else [])))


@pytest.mark.parametrize("rule", [OPEN, KEYED], ids=["without keys", "with keys"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://[::1",
        "http://\xff",
        "",
        "null",
    ],
)
def test_mcp_refuses_pages_of_other_machines(rule: BrowserRule, origin: str) -> None:
    """Addresses that only look local, and origins that are not addresses, are refused."""
    for more in ((), (("Origin", "http://localhost"),)):
        with pytest.raises(OriginRefused):
            rule.check(request("/mcp", ("Host", HERE), ("Origin", origin), *more))


def test_mcp_serves_the_services_own_pages_without_keys() -> None:
    """The page may have the name of a machine in the network."""
    own = request("/mcp", ("Host", "code-interpreter:8000"), ("Origin", "http://code-interpreter:8000"))
    OPEN.check(own)
    with pytest.raises(OriginRefused):
        KEYED.check(own)


@pytest.mark.parametrize("path", ["/", "/v1/files", "/metrics", "/ready"])
def test_browsers_are_not_restricted_on_other_paths_with_keys(path: str) -> None:
    """A page of another server does not have the key."""
    KEYED.check(request(path, ("Host", "evil.example"), ("Origin", "http://evil.example")))
    with pytest.raises(BrowserRefused):
        OPEN.check(request(path, ("Host", "evil.example"), ("Origin", "http://evil.example")))
