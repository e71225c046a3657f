"""Tests of traces: the spans that arrive at a collector."""

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
    """A client with a key of its own."""
    return watched.api("traced")


def traceparent(*, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """Return a new trace id, a span id, and the header that carries both."""
    trace_id, span_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-0{int(sampled)}"}


def has(*names: str) -> "HasSpans":
    """Return a function that says whether a trace has spans of these names."""
    return HasSpans(set(names))


class HasSpans(set[str]):
    """The names of the spans that a complete trace has."""

    def __call__(self, spans: list[Span]) -> bool:
        return self <= {span.name for span in spans}


def chain(spans: list[Span], name: str) -> list[str]:
    """Return the names of a span and of its ancestors in the service, from the span upwards."""
    by_id = {span.span_id: span for span in spans}
    (span,) = (span for span in spans if span.name == name)
    names = [span.name]
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names


def test_one_execution_is_one_trace_from_the_caller_to_the_kernel(api: Api, collector: Collector) -> None:
    """All spans have the trace id of the caller, down to the span of the kernel."""
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
    sent = {name.removeprefix("code_interpreter."): value for name, value in execution.attributes.items()}
    assert (sent["execution_id"], sent["outcome"], sent["kind"]) == (
        execution_id,
        "ok",
        "execute",
    )
    assert (sent["files_in_bytes"], sent["files_out_bytes"], sent["exit_code"]) == (1, 1, 0)
    assert collector.resource["service.name"] == "code-interpreter"


def test_executions_of_a_session_are_traced(watched: KeyedService, api: Api, collector: Collector) -> None:
    """Cells, streamed and detached cells, and shell commands belong to the traces of their requests."""
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
            execution_id = execution.attributes["code_interpreter.execution_id"]
            assert execution_id == response.headers["x-execution-id"]


def test_each_mcp_tool_call_is_one_trace(api: Api, collector: Collector) -> None:
    """A tool call is one request, and belongs to the trace of its caller."""
    begun = api.http.post("/mcp", json=message("initialize", **INITIALIZE), headers=ACCEPT)
    mcp = ACCEPT | {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
    for call in (tool_call("run_python", code="1"), tool_call("run_shell", command="true")):
        trace_id, caller, headers = traceparent()
        api.http.post("/mcp", json=call, headers=mcp | headers)
        spans = collector.trace(trace_id, has("POST /mcp", "execution", "supervisor"))
        assert chain(spans, "supervisor") == ["supervisor", "run", "execution", "POST /mcp"]
        assert [span.parent_id for span in spans if span.name == "POST /mcp"] == [caller]
    api.http.delete("/mcp", headers=mcp)


def test_each_cell_of_a_notebook_is_a_trace_of_its_own(
    watched: KeyedService, api: Api, collector: Collector
) -> None:
    """One WebSocket carries many cells, and may be open for days."""
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


def test_trace_shows_the_start_of_a_container(watched: KeyedService, collector: Collector) -> None:
    """If no container is ready, its start is below the execution that waits for it."""
    names: set[str] = set()
    for number in range(6):
        # Each call has another tenant, so that soon the pool has no container for it.
        api = watched.api(f"waiting-{number}")
        trace_id, _, headers = traceparent()
        api.http.post("/v1/execute", json={"code": "1"}, headers=headers)
        spans = collector.trace(trace_id, has("POST /v1/execute", "execution", "kernel"))
        names |= {span.name for span in spans}
        if "start" in names:
            assert chain(spans, "container") == ["container", "start", "execution", "POST /v1/execute"]
            assert chain(spans, "kernel start")[1:] == ["start", "execution", "POST /v1/execute"]
            return
    raise AssertionError(f"no call waited for a container: {names}")


def test_invalid_traceparent_is_ignored_and_unsampled_trace_is_not_sent(
    api: Api, collector: Collector
) -> None:
    """The requests are served."""
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
    """Otherwise most traces would be of health checks, readiness checks and scrapes."""
    trace_id, _, headers = traceparent()
    for path in ("/health", "/ready", "/metrics"):
        assert httpx.get(watched.service.base_url + path, headers=headers).status_code == 200
    last, _, headers = traceparent()
    watched.api("traced").http.get("/v1/files", headers=headers)
    collector.trace(last, has("GET /v1/files"))
    assert collector.trace(trace_id, lambda _: True) == []


def test_traces_have_nothing_that_callers_send(api: Api, collector: Collector, watched: KeyedService) -> None:
    """Spans contain no code, input, file name or content, key or query."""
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


def test_service_works_without_its_collector(start_service: StartService) -> None:
    """Calls are served, the log has one warning, dropped spans are counted, and the service can stop."""
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
    assert log.count("does not accept traces") == 1
    assert "Canary" not in log
    assert "Traceback" not in log


def test_spans_dropped_from_a_full_queue_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector accepts connections and never answers, so the first batch is never sent."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        metrics = Metrics()
        traces = OtlpTraces(metrics)
        for _ in range(100):
            context = RequestContext("request")
            traces.request_began(context, [])
            traces.request_ended(context, "GET", "/v1/files", 200)
        dropped = metrics.registry.get_sample_value(SPANS, {"result": "dropped"})
        assert dropped is not None
        assert 100 - 8 - 4 <= dropped <= 100 - 8
    asyncio.run(traces.close())


def test_invalid_otel_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error contains the message of OpenTelemetry, which reads the variables itself."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")
    with pytest.raises(OtlpUnusable, match=r"OTEL_\*.*max_export_batch_size"):
        OtlpTraces(Metrics())


def test_opentelemetry_is_not_imported_without_a_collector() -> None:
    """The import would take time and memory at each start."""
    heavy = "('opentelemetry.sdk', 'opentelemetry.exporter', 'google.protobuf')"
    look = f"import sys, service.server; print([m for m in sys.modules if m.startswith({heavy})])"
    found = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"
