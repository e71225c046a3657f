"""The metrics of the service, for Prometheus.

Labels have few values, and none that comes from a caller: no ids, no paths, no names of keys.
"""

from typing import Final, Protocol, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from sessions.containers.observer import Removal, Scrub
from sessions.records import RUNNING, ExecutionKind, ExecutionRecord, FileOrigin, Outcome, SessionEnd
from sessions.timeline import Timeline

_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Bounds of the histograms, in seconds. Executions take between some milliseconds and a minute."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
NO_ROUTE: Final = "none"
"""The label of requests whose path belongs to no route."""

# Without this, a creation time for each counter would double the number of lines.
disable_created_metrics()  # type: ignore[no-untyped-call]


class KernelCounts(Protocol):
    """Numbers of kernels by their state; implemented by ``sessions.containers.pool.pool.PoolStatus``."""

    @property
    def ready(self) -> int: ...
    @property
    def starting(self) -> int: ...
    @property
    def busy(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def target(self) -> int: ...


class Metrics:
    """All metrics. Implements `sessions.containers.observer.PoolObserver`."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"code_interpreter_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"code_interpreter_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"code_interpreter_{name}", text, labels, registry=registry, buckets=_BUCKETS)

        self._requests = counter("http_requests_total", "Requests answered.", "route", "method", "status")
        self._request_time = histogram(
            "http_request_duration_seconds", "Time until the response was sent; streams until their end.",
            "route", "method",
        )  # fmt: skip
        self._wrong_keys = counter("wrong_keys_total", "Requests with a wrong API key.")
        self._executions = counter("executions_total", "Executions that ended.", "kind", "outcome")
        self._execution_time = histogram(
            "execution_duration_seconds",
            "Time from asking for a kernel or session to the result.",
            "kind",
        )
        self._queue_wait = histogram(
            "queue_wait_seconds", "Time that calls waited for a kernel or for a session.", "kind"
        )
        self._stages = histogram(
            "execution_stage_seconds", "Time of each stage of an execution after its wait.", "stage"
        )
        self._cpu = counter("execution_cpu_seconds_total", "CPU time of user code.", "kind")
        self._output = counter("output_bytes_total", "Bytes of text and displays of user code.", "stream")

        self._pool = gauge("pool_kernels", "Kernels by state.", "state")
        self._pool_target = gauge("pool_target_kernels", "Kernels that the pool aims to keep ready.")
        self._waiting = gauge("queue_callers", "Callers that wait for a kernel.")
        self._launch_time = histogram(
            "container_start_seconds", "Time to start a container, and the kernel in it.", "part"
        )
        self._made = counter("containers_started_total", "Containers started.", "result")
        self._removed = counter("containers_removed_total", "Containers removed, by reason.", "reason")
        self._scrubs = counter("scrubs_total", "Scrubs of used containers, by result.", "result")
        self._scrub_time = histogram("scrub_duration_seconds", "Time of a scrub.")

        self._sessions = gauge("sessions", "Open sessions by state.", "state")
        self._opened = counter("sessions_opened_total", "Sessions opened.")
        self._ended = counter("sessions_ended_total", "Sessions that ended, by reason.", "reason")

        self._files = gauge("store_files", "Stored files.")
        self._stored = gauge("store_bytes", "Bytes of stored files.")
        self._files_stored = counter("store_added_files_total", "Files stored.", "origin")
        self._bytes_stored = counter("store_added_bytes_total", "Bytes of files stored.", "origin")
        self._uploaded = counter("uploaded_bytes_total", "Bytes of uploaded files.", "target")
        self._downloaded = counter("downloaded_bytes_total", "Bytes of downloaded files.", "source")
        self._spans = counter("trace_spans_total", "Spans sent to the collector, or dropped.", "result")

        # Prometheus computes a rate only if it has seen a counter at 0.
        for kind in get_args(ExecutionKind):
            for outcome in (*get_args(Outcome), "refused"):
                if outcome != RUNNING:
                    self._executions.labels(kind, outcome)
        for why in Removal:
            self._removed.labels(why.value)
        for result in Scrub:
            self._scrubs.labels(result.value)
        for launch in ("ok", "failed"):
            self._made.labels(launch)

    # --- requests ---------------------------------------------------------------------------------

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is the template of its path, or `NO_ROUTE`."""
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._request_time.labels(route, method).observe(seconds)

    def wrong_key(self) -> None:
        """Count a request with a wrong key, whatever its answer."""
        self._wrong_keys.inc()

    def uploaded(self, target: str, size_bytes: int) -> None:
        """Count an upload. `target` is `store` or `session`."""
        self._uploaded.labels(target).inc(size_bytes)

    def downloaded(self, source: str, size_bytes: int) -> None:
        """Count a download, in whole or in part. `source` is `store` or `session`."""
        self._downloaded.labels(source).inc(size_bytes)

    def file_stored(self, origin: FileOrigin, size_bytes: int) -> None:
        """Count a file that has been stored."""
        self._files_stored.labels(origin).inc()
        self._bytes_stored.labels(origin).inc(size_bytes)

    # --- executions -------------------------------------------------------------------------------

    def executed(self, record: ExecutionRecord, timeline: Timeline) -> None:
        """Count an execution that has ended, with any outcome."""
        kind = record.kind
        self._executions.labels(kind, record.outcome).inc()
        self._execution_time.labels(kind).observe(record.finished_at - record.created_at)
        self.waited(kind, timeline)
        for stage in {period.name for period in timeline.periods} - {"queue"}:
            self._stages.labels(stage).observe(timeline.seconds(stage))
        self._cpu.labels(kind).inc((record.cpu_ms or 0) / 1000)
        self._output.labels("stdout").inc(record.stdout_bytes)
        self._output.labels("stderr").inc(record.stderr_bytes)
        self._output.labels("display").inc(record.display_bytes or 0)

    def refused(self, kind: ExecutionKind, outcome: str) -> None:
        """Count a call whose execution was not begun."""
        self._executions.labels(kind, outcome).inc()

    def waited(self, kind: str, timeline: Timeline) -> None:
        """Measure how long a call waited for its kernel or its session."""
        if any(period.name == "queue" for period in timeline.periods):
            self._queue_wait.labels(kind).observe(timeline.seconds("queue"))

    # --- containers -------------------------------------------------------------------------------

    def launched(self, container_sec: float, kernel_sec: float) -> None:
        self._made.labels("ok").inc()
        self._launch_time.labels("container").observe(container_sec)
        self._launch_time.labels("kernel").observe(kernel_sec)

    def launch_failed(self) -> None:
        self._made.labels("failed").inc()

    def removed(self, why: Removal) -> None:
        self._removed.labels(why.value).inc()

    def scrubbed(self, result: Scrub, seconds: float) -> None:
        self._scrubs.labels(result.value).inc()
        self._scrub_time.observe(seconds)

    # --- sessions and traces ----------------------------------------------------------------------

    def session_opened(self) -> None:
        """Count a session that was opened."""
        self._opened.inc()

    def session_ended(self, reason: SessionEnd) -> None:
        """Count a session that has ended."""
        self._ended.labels(reason).inc()

    def spans(self, result: str, count: int) -> None:
        """Count spans. `result` is `sent` or `dropped`. May be called from any thread."""
        self._spans.labels(result).inc(count)

    # --- gauges -----------------------------------------------------------------------------------

    def set_gauges(self, pool: KernelCounts, sessions: tuple[int, int], files: tuple[int, int]) -> None:
        """Set the gauges.

        Args:
            pool: The numbers of kernels.
            sessions: The numbers of ready and of busy sessions.
            files: The number of stored files and their bytes.
        """
        states = {
            "ready": pool.ready,
            "starting": pool.starting,
            "leased": pool.busy,
            "session": pool.kept,
        }
        for state, count in states.items():
            self._pool.labels(state).set(count)
        self._pool_target.set(pool.target)
        self._waiting.set(pool.waiting)
        for state, count in zip(("ready", "busy"), sessions, strict=True):
            self._sessions.labels(state).set(count)
        self._files.set(files[0])
        self._stored.set(files[1])

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format of an `Accept` header, and their media type.

        Takes some milliseconds, so it is called on a thread.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type
