"""Tests of ``/metrics``: the values, names and labels of the metrics, and access to them."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.routes import metrics
from service.telemetry.metrics import Metrics
from tests.routes.files_support import serve_app
from tests.support.api import Api
from tests.support.keys import KeyedService
from tests.support.metrics import Change, change, families, samples
from tests.support.process import ROOT
from tests.support.session import new_session
from tests.support.settings import make_settings
from tests.support.waiting import soon

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
SECOND_PARTS = re.compile(r"_(bucket|count|sum|created)$")


@pytest.fixture
def api(watched: KeyedService) -> Api:
    """A client with a key of its own, so that it shares no container with other tests."""
    return watched.api("counted")


@pytest.fixture
def http(watched: KeyedService) -> httpx.Client:
    """A client without a key, like Prometheus. Containers of earlier tests have been removed."""
    watched.service.settle(at_target=False)
    return watched.service.api.http


def settled(changed: Change, name: str, expected: float, **labels: str) -> None:
    """Wait until a sample has changed by the expected value. Some change after the response."""
    deadline = time.monotonic() + 60
    changed.read()
    while changed.of(name, **labels) != expected:
        assert time.monotonic() < deadline, (name, labels, changed.of(name, **labels), expected)
        time.sleep(0.1)
        changed.read()


def test_requests_are_counted_by_route(http: httpx.Client, api: Api) -> None:
    """The label is the template of the path, also for refused requests and unknown paths."""
    unknown = "3f1d2c4b-8a6e-4f07-9b15-7c2d90e1a5f3"
    with change(http) as changed:
        for _ in range(3):
            api.http.get(f"/v1/files/{unknown}")
        http.get(f"/v1/files/{unknown}")
        api.http.get("/nowhere/at/all")
        api.http.put("/v1/execute")
        api.http.get(f"/v1/sessions/{unknown}/files/a/b/c")
    requests = "http_requests_total"
    assert changed.of(requests, route="/v1/files/{file_id}", method="GET", status="404") == 3
    assert changed.of(requests, route="/v1/files/{file_id}", method="GET", status="401") == 1
    assert changed.of(requests, route="none", status="404") == 1
    assert changed.of(requests, route="/v1/execute", method="PUT", status="405") == 1
    assert changed.of(requests, route="/v1/sessions/{session_id}/files/{path}", status="404") == 1
    assert changed.of("http_request_duration_seconds_count", route="/v1/files/{file_id}") == 4


ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ok": ("print('x' * 99)", {}),
    "error": ("raise ValueError", {}),
    "timeout": ("import time\ntime.sleep(9)", {"timeout_ms": 50}),
}


def test_executions_are_counted_by_kind_and_outcome(
    http: httpx.Client, watched: KeyedService, api: Api
) -> None:
    """Durations and bytes of output are measured too. Refused executions are counted."""
    with change(http) as changed, new_session(watched.service, api) as session:
        for code, fields in ENDS.values():
            api.run(code, **fields)
            session.run(code, **fields)
        session.bash("true")
        assert api.execute("1", timeout_ms=10**6).status_code == 422
    for kind in ("execute", "session"):
        for outcome in ENDS:
            assert changed.of("executions_total", kind=kind, outcome=outcome) == 1
        assert changed.of("execution_duration_seconds_count", kind=kind) == 3
        assert changed.of("queue_wait_seconds_count", kind=kind) == 3
    assert changed.of("executions_total", kind="bash", outcome="ok") == 1
    assert changed.of("executions_total", kind="execute", outcome="refused") == 1
    assert changed.of("executions_total") == 8
    assert changed.of("queue_wait_seconds_count", kind="open") == 1
    assert changed.of("execution_stage_seconds_count", stage="run") == 7
    assert changed.of("execution_stage_seconds_sum", stage="run") >= 0.1
    assert changed.of("output_bytes_total", stream="stdout") == 200
    assert changed.of("output_bytes_total", stream="stderr") > 0


def test_sessions_are_counted_by_the_reason_of_their_end(
    http: httpx.Client, watched: KeyedService, api: Api
) -> None:
    """Opened, ended and open sessions are counted. The container of one that ended well is scrubbed."""
    with change(http) as changed, new_session(watched.service, api):
        changed.read()
        assert changed.of("sessions") == changed.of("sessions", state="ready") == 1
    assert changed.of("sessions_opened_total") == 1
    assert changed.of("sessions_ended_total", reason="deleted") == 1
    assert changed.of("sessions") == 0
    settled(changed, "scrubs_total", 1, result="clean")
    with change(http) as changed, new_session(watched.service, api) as session:
        session.detach("while True: pass")
    settled(changed, "containers_removed_total", 1, reason="session_ended")


def test_bytes_of_files_are_counted(http: httpx.Client, watched: KeyedService, api: Api) -> None:
    """Output files count as stored bytes. The gauges show what is stored at the moment."""
    with change(http) as changed:
        file_id = api.upload(b"x" * 1000)
        assert len(api.download(file_id)) == 1000
        result = api.run("open('out.bin', 'wb').write(b'y' * 300)")
        (file,) = result["files"]
        assert len(api.http.get(f"/v1/files/{file_id}", headers={"Range": "bytes=0-9"}).content) == 10
        with new_session(watched.service, api) as session:
            session.put("in.bin", b"z" * 50)
            assert session.read("in.bin") == b"z" * 50
        changed.read()
        assert (changed.of("store_bytes"), changed.of("store_files")) == (1300, 2)
        for stored in (file_id, file["file_id"]):
            assert api.http.delete(f"/v1/files/{stored}").status_code == 204
    assert changed.of("uploaded_bytes_total", target="store") == 1000
    assert changed.of("uploaded_bytes_total", target="session") == 50
    assert changed.of("downloaded_bytes_total", source="store") == 1010
    assert changed.of("downloaded_bytes_total", source="session") == 50
    assert changed.of("store_added_bytes_total", origin="upload") == 1000
    assert changed.of("store_added_bytes_total", origin="output") == 300
    assert (changed.of("store_bytes"), changed.of("store_files")) == (0, 0)


@pytest.mark.timeout(240)
def test_started_scrubbed_and_removed_containers_are_counted(
    http: httpx.Client, watched: KeyedService, api: Api
) -> None:
    """A container is scrubbed after a successful call, and removed after a timeout."""
    watched.service.settle()
    with change(http) as changed:

        def has_started() -> bool:
            changed.read()
            return changed.of("containers_started_total", result="ok") >= 1

        api.run("1")
        settled(changed, "scrubs_total", 1, result="clean")
        api.run("import time\ntime.sleep(9)", timeout_ms=50)
        settled(changed, "containers_removed_total", 1, reason="used")
        # A surplus container may stay for half a minute. The test does not wait for its removal.
        assert soon(has_started)
        watched.service.settle(at_target=False)
    launched = changed.of("containers_started_total", result="ok")
    for part in ("container", "kernel"):
        assert changed.of("container_start_seconds_count", part=part) == launched
    assert changed.of("scrub_duration_seconds_count") == 1
    pool = {
        dict(labels)["state"]: value
        for (name, labels), value in samples(http).items()
        if name == "code_interpreter_pool_kernels"
    }
    assert set(pool) == {"ready", "starting", "leased", "session"}
    assert pool["ready"] == watched.service.pool()["ready"]


def test_metric_names_and_labels_contain_nothing_from_callers(http: httpx.Client, api: Api) -> None:
    """Names follow the conventions of Prometheus. No label has a value that a caller sent."""
    canary = "Canary7f3a"
    api.http.request("GET", f"/v1/files/{canary}", headers={"X-Request-ID": canary})
    api.http.get(f"/{canary}?{canary}={canary}")
    api.http.request("REPORT", f"/v1/sessions/{canary}/files/{canary}")
    text = http.get("/metrics").text
    assert canary not in text and "counted" not in text
    for family in families(http):
        assert re.fullmatch(r"(code_interpreter|process)_[a-z_]+", family.name), family.name
        assert family.documentation
        for sample in family.samples:
            if family.type == "counter":
                assert re.search("_(total|created)$", sample.name)
            assert set(sample.labels) <= {
                "route", "method", "status", "kind", "outcome", "stage", "stream", "state", "part",
                "result", "reason", "origin", "target", "source", "le",
            }  # fmt: skip
    methods = {s.labels["method"] for f in families(http) for s in f.samples if "method" in s.labels}
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET", "other"}
    of_process = {family.name for family in families(http)}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= of_process
    assert {0.001, 0.01, 60.0} <= {
        float(s.labels["le"]) for f in families(http) for s in f.samples if "le" in s.labels
    }


def test_openmetrics_format_is_served_on_request(http: httpx.Client) -> None:
    """Prometheus asks for it with the header `Accept`."""
    response = http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_concurrent_scrapes_and_calls_succeed(http: httpx.Client, api: Api, watched: KeyedService) -> None:
    """Ten scrapes run at once, while code is executed."""

    def scrape(_: int) -> int:
        return httpx.get(f"{watched.service.base_url}/metrics", timeout=30).status_code

    with ThreadPoolExecutor(10) as threads:
        scraped = threads.map(scrape, range(50))
        for _ in range(5):
            assert api.run("1")["exit_code"] == 0
        assert set(scraped) == {200}


def test_closed_metrics_do_not_exist_without_keys(tmp_path: Path) -> None:
    """No key could open the path, so the status is 404."""
    with serve_app(make_settings(tmp_path, open_pages="docs"), metrics.router) as app:
        assert app.http.get("/metrics").status_code == 404


def expressions(node: Any) -> Iterator[str]:
    """Yield every query of a dashboard."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("expr", "query") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def test_dashboard_and_documentation_name_existing_metrics() -> None:
    """docs/observability.md lists all metrics of the service. Every name in a query or the page exists."""
    names = set()
    for family in text_string_to_metric_families(Metrics().text("")[0].decode()):
        names.add(family.name + ("_total" if family.type == "counter" else ""))
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [query for query in expressions(dashboard["panels"]) if query]
    assert len(queries) > 10
    used = {
        SECOND_PARTS.sub("", name)
        for query in queries
        for name in re.findall(r"\b(?:code_interpreter|process)_[a-z_]+\b", query)
    }
    assert used <= names, used - names
    documented = (ROOT / "docs" / "observability.md").read_text()
    own_metrics = {name for name in names if name.startswith("code_interpreter_")}
    assert {name for name in own_metrics if f"`{name}`" not in documented} == set()
    listed = set(re.findall(r"`(code_interpreter_[a-z_]+)`", documented))
    assert listed <= names, listed - names
    assert Path(DASHBOARD).stat().st_size < 100_000
