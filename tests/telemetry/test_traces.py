"""Traces arrive at a collector: one execution is one trace, from the caller to the kernel."""

import asyncio
import re
import socket
import subprocess
import sys
import time
import uuid
from contextlib import closing

import httpx
import pytest

from service.telemetry.errors import OtlpUnusable
from service.telemetry.metrics import Metrics
from service.telemetry.otlp import OtlpTraces
from service.telemetry.request_context import RequestContext
from tests.conftest import StartService
from tests.gateway.channels import open_channels
from tests.mcp.support import ACCEPT, INITIALIZE, message, tool_call
from tests.support.api import Api
from tests.support.collector import Collector, Span
from tests.support.keys import KeyedService
from tests.support.process import free_port
from tests.support.session import new_session

SPANS = "code_interpreter_trace_spans_total"


@pytest.fixture
def api(watched: KeyedService) -> Api:
    """A key's of its own."""
    return watched.api("traced")


def traceparent(*, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """A caller's trace id, its span's id, and the header that tells of them."""
    trace_id, span_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-0{int(sampled)}"}


def has(*names: str) -> "Whole":
    """A trace is whole when it has spans of these names."""
    return Whole(set(names))


class Whole(set[str]):
    """Names that a whole trace has."""

    def __call__(self, spans: list[Span]) -> bool:
        return self <= {span.name for span in spans}


def chain(spans: list[Span], name: str) -> list[str]:
    """The names from a span up to the one that the caller began."""
    by_id = {span.span_id: span for span in spans}
    (span,) = (span for span in spans if span.name == name)
    names = [span.name]
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names


def test_one_execution_is_one_trace_from_the_caller_to_the_kernel(api: Api, collector: Collector) -> None:
    """The caller's trace id is that of every span, down to the kernel's own time."""
    trace_id, caller, headers = traceparent()
    files = api.stage_at({"in.txt": b"x"})
    body = {"code": "open('out.txt', 'w').write('y')\nimport time\ntime.sleep(0.2)", "files": files}
    response = api.http.post("/v1/execute", json=body, headers=headers)
    execution_id = response.json()["execution_id"]
    spans = collector.trace(trace_id, has("POST /v1/execute", "execution", "kernel", "store"))

    assert chain(spans, "kernel") == ["kernel", "supervisor", "run", "execution", "POST /v1/execute"]
    for name in ("queue", "stage files", "run", "gather", "store"):
        assert chain(spans, name) == [name, "execution", "POST /v1/execute"]
    by_name = {span.name: span for span in spans}
    request, execution, kernel = (by_name[name] for name in ("POST /v1/execute", "execution", "kernel"))
    assert request.parent_id == caller
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["code_interpreter.request_id"] == response.headers["x-request-id"]
    assert kernel.ended - kernel.began >= 0.2e9
    assert request.began <= execution.began <= by_name["run"].began <= kernel.began
    assert kernel.ended <= by_name["run"].ended <= execution.ended
    told = {name.removeprefix("code_interpreter."): value for name, value in execution.attributes.items()}
    assert (told["execution_id"], told["outcome"], told["kind"]) == (execution_id, "ok", "execute")
    assert (told["files_in_bytes"], told["files_out_bytes"], told["exit_code"]) == (1, 1, 0)
    assert collector.resource["service.name"] == "code-interpreter"


def test_what_runs_in_a_session_is_traced(watched: KeyedService, api: Api, collector: Collector) -> None:
    """Cells, streamed ones, and commands; a detached cell goes on in the trace of who began it."""
    with new_session(watched.service, api) as session:
        for path, body, name in (
            ("/execute", {"code": "1"}, "POST /v1/sessions/{session_id}/execute"),
            ("/execute", {"code": "1", "detach": True}, "POST /v1/sessions/{session_id}/execute"),
            ("/execute/stream", {"code": "1"}, "POST /v1/sessions/{session_id}/execute/stream"),
            ("/bash", {"cmd": "true"}, "POST /v1/sessions/{session_id}/bash"),
        ):
            trace_id, _, headers = traceparent()
            response = session.call("POST", path, json=body, headers=headers)
            spans = collector.trace(trace_id, has(name, "execution", "supervisor"))
            assert chain(spans, "supervisor") == ["supervisor", "run", "execution", name]
            (execution,) = (span for span in spans if span.name == "execution")
            assert execution.attributes["code_interpreter.session_id"] == session.id
            told = execution.attributes["code_interpreter.execution_id"]
            assert told == response.headers["x-execution-id"]


def test_what_a_model_runs_is_traced(api: Api, collector: Collector) -> None:
    """A call of a tool is one request, and its own trace."""
    begun = api.http.post("/mcp", json=message("initialize", **INITIALIZE), headers=ACCEPT)
    mcp = ACCEPT | {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
    for call in (tool_call("run_python", code="1"), tool_call("run_shell", command="true")):
        trace_id, caller, headers = traceparent()
        api.http.post("/mcp", json=call, headers=mcp | headers)
        spans = collector.trace(trace_id, has("POST /mcp", "execution", "supervisor"))
        assert chain(spans, "supervisor") == ["supervisor", "run", "execution", "POST /mcp"]
        assert [span.parent_id for span in spans if span.name == "POST /mcp"] == [caller]
    api.http.delete("/mcp", headers=mcp)


def test_cells_of_a_notebook_are_traces_of_their_own(
    watched: KeyedService, api: Api, collector: Collector
) -> None:
    """Many come by one socket, which may be open for days."""
    with new_session(watched.service, api) as session:
        trace_id, _, headers = traceparent()
        headers["X-API-Key"] = api.http.headers["x-api-key"]
        with open_channels(watched.service, session.id, headers=headers) as channels:
            for code in ("1", "2"):
                channels.run(code)
        ids = {one["execution_id"] for one in api.http.get("/v1/executions?limit=2").json()["executions"]}
    found = collector.traces(lambda span: span.attributes.get("code_interpreter.execution_id") in ids, 2)
    assert trace_id not in found
    for of_cell in found:
        spans = collector.trace(of_cell, has("execution", "supervisor"))
        assert chain(spans, "supervisor") == ["supervisor", "run", "execution"]


def test_waiting_for_a_container_is_seen(watched: KeyedService, collector: Collector) -> None:
    """Where none is ready: its launch is beneath the execution that waited for it."""
    names: set[str] = set()
    for number in range(6):
        # Each is another tenant, so that soon no container fits.
        api = watched.api(f"waiting-{number}")
        trace_id, _, headers = traceparent()
        api.http.post("/v1/execute", json={"code": "1"}, headers=headers)
        spans = collector.trace(trace_id, has("POST /v1/execute", "execution", "kernel"))
        names |= {span.name for span in spans}
        if "start" in names:
            assert chain(spans, "container") == ["container", "start", "execution", "POST /v1/execute"]
            assert chain(spans, "kernel start")[1:] == ["start", "execution", "POST /v1/execute"]
            return
    raise AssertionError(f"nobody waited for a container: {names}")


def test_a_bad_traceparent_is_none_and_a_trace_that_is_not_sampled_is_not_sent(
    api: Api, collector: Collector
) -> None:
    """The request is served all the same, in a trace of its own or in none."""
    unsampled, _, headers = traceparent(sampled=False)
    assert api.http.post("/v1/execute", json={"code": "1"}, headers=headers).status_code == 200
    for bad in ("", "x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "g" * 32 + "-1-01", "é"):
        value = bad.encode("latin-1")
        response = api.http.post(
            "/v1/execute", json={"code": "1"}, headers=[(b"traceparent", value), (b"tracestate", b"\xff=,;")]
        )
        assert response.status_code == 200
    trace_id, _, headers = traceparent()
    assert api.http.get("/v1/files", headers=headers).status_code == 200
    collector.trace(trace_id, has("GET /v1/files"))
    assert unsampled not in {span.trace_id for span in collector.trace(unsampled, lambda _: True)}


def test_probes_are_not_traced(watched: KeyedService, collector: Collector) -> None:
    """Health, readiness and scrapes would be most of what there is."""
    trace_id, _, headers = traceparent()
    for path in ("/health", "/ready", "/metrics"):
        assert httpx.get(watched.service.base_url + path, headers=headers).status_code == 200
    last, _, headers = traceparent()
    watched.api("traced").http.get("/v1/files", headers=headers)
    collector.trace(last, has("GET /v1/files"))
    assert collector.trace(trace_id, lambda _: True) == []


def test_traces_have_nothing_of_what_was_sent(api: Api, collector: Collector, watched: KeyedService) -> None:
    """No code, input, name, content, key or query: ids, sizes and times only."""
    canary = f"Canary{uuid.uuid4().hex}"
    trace_id, _, headers = traceparent()
    files = [{"path": f"{canary}.txt", "file_id": api.upload(canary.encode(), f"{canary}.txt")}]
    code = f"# {canary}\nprint(input(), '{canary}')\nopen('{canary}', 'w').write('{canary}')\n1 / 0"
    body = {"code": code, "stdin": canary, "files": files}
    api.http.post(f"/v1/execute?{canary}=1", json=body, headers=headers | {"X-Canary": canary})
    collector.trace(trace_id, has("execution", "POST /v1/execute"))
    trace_id, _, headers = traceparent()
    api.http.get(f"/v1/files/{canary}", headers=headers)
    collector.trace(trace_id, has("GET /v1/files/{file_id}"))
    sent = b"".join(collector.raw)
    assert canary.encode() not in sent
    assert not [key for key in watched.every_key() if key.encode() in sent]


def test_a_collector_that_is_away_harms_nothing(start_service: StartService) -> None:
    """Calls are served, there is one warning, spans are dropped and counted, and the service stops."""
    service = start_service(
        POOL_SIZE=1,
        LOG_LEVEL="DEBUG",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Canary of a collector",
        OTEL_EXPORTER_OTLP_TIMEOUT=1,
        OTEL_BSP_SCHEDULE_DELAY=100,
        OTEL_BSP_MAX_QUEUE_SIZE=32,
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE=16,
    )
    dropped = re.compile(r'^code_interpreter_trace_spans_total\{result="dropped"\} ([\d.]+)$', re.MULTILINE)
    deadline = time.monotonic() + 60
    served = 0
    while True:
        assert service.api.http.get("/v1/files").status_code == 200
        served += 1
        found = dropped.search(service.api.http.get("/metrics").text)
        if found and float(found[1]) > 30:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert service.api.run("1 + 1")["exit_code"] == 0
    service.stop()
    log = service.log_path.read_text()
    assert log.count("does not take traces") == 1
    assert "Canary" not in log
    assert "Traceback" not in log


def test_what_the_queue_has_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes connections and says nothing, so the first batch is never done with."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        metrics = Metrics()
        traces = OtlpTraces(metrics)
        for _ in range(100):
            trail = RequestContext("request")
            traces.request_began(trail, [])
            traces.request_ended(trail, "GET", "/v1/files", 200)
        dropped = metrics.registry.get_sample_value(SPANS, {"result": "dropped"})
        assert dropped is not None
        assert 100 - 8 - 4 <= dropped <= 100 - 8
    asyncio.run(traces.close())


def test_variables_that_make_no_sense_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry reads them itself, and says what is wrong."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")
    with pytest.raises(OtlpUnusable, match=r"OTEL_\*.*max_export_batch_size"):
        OtlpTraces(Metrics())


def test_opentelemetry_is_not_loaded_where_it_is_not_asked_for() -> None:
    """It is the largest of the libraries, and most services have no collector."""

    heavy = "('opentelemetry.sdk', 'opentelemetry.exporter', 'google.protobuf')"
    look = f"import sys, service.server; print([m for m in sys.modules if m.startswith({heavy})])"
    found = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"
