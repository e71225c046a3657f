"""What is counted and measured, for Prometheus: a registry of the application's own.

Labels have few values, and all of them are ours: no ids, no paths, no names of keys.
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
"""Seconds. A warm execution takes some milliseconds, the longest a minute."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
NO_ROUTE: Final = "none"
"""In place of a route where a path has none."""


# A time beside each counter, which nobody reads, would be as many lines again.
disable_created_metrics()  # type: ignore[no-untyped-call]


class KernelCounts(Protocol):
    """How many kernels there are, by what they do; ``sessions.containers.pool.pool.PoolStatus`` is one."""

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
    """All of them; also a `sessions.containers.observer.PoolObserver`."""

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
            "http_request_duration_seconds", "Time until an answer had left, streams to their end.",
            "route", "method",
        )  # fmt: skip
        self._executions = counter("executions_total", "Executions that ended.", "kind", "outcome")
        self._execution_time = histogram(
            "execution_duration_seconds", "From the request for a kernel, or a turn, to the result.", "kind"
        )
        self._queue_wait = histogram(
            "queue_wait_seconds", "Waiting for a kernel, or for a turn in a session.", "kind"
        )
        self._stages = histogram(
            "execution_stage_seconds", "What an execution spends its time on after its wait.", "stage"
        )
        self._cpu = counter("execution_cpu_seconds_total", "CPU time of the users' code.", "kind")
        self._output = counter("output_bytes_total", "Text and rich outputs that code made.", "stream")

        self._pool = gauge("pool_kernels", "Kernels there are, by what they do.", "state")
        self._pool_target = gauge("pool_target_kernels", "Kernels that are to be kept ready.")
        self._waiting = gauge("queue_callers", "Callers that wait for a kernel.")
        self._launch_time = histogram(
            "container_start_seconds", "Starting a container, and a kernel in it.", "part"
        )
        self._made = counter("containers_started_total", "Containers started.", "result")
        self._removed = counter("containers_removed_total", "Containers removed, and why.", "reason")
        self._scrubs = counter("scrubs_total", "Containers made as new, or not.", "result")
        self._scrub_time = histogram("scrub_duration_seconds", "Making a container as new.")

        self._sessions = gauge("sessions", "Sessions that are open.", "state")
        self._opened = counter("sessions_opened_total", "Sessions made.")
        self._ended = counter("sessions_ended_total", "Sessions that ended, and why.", "reason")

        self._files = gauge("store_files", "Files in the store.")
        self._stored = gauge("store_bytes", "Bytes of the files in the store.")
        self._files_stored = counter("store_added_files_total", "Files put into the store.", "origin")
        self._bytes_stored = counter("store_added_bytes_total", "Bytes put into the store.", "origin")
        self._uploaded = counter("uploaded_bytes_total", "Bytes of files that callers sent.", "target")
        self._downloaded = counter("downloaded_bytes_total", "Bytes of files that callers got.", "source")
        self._spans = counter("trace_spans_total", "Spans sent to the collector, or dropped.", "result")

        # A rate needs the 0 before the first of a kind.
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
        """A request is over; `route` is a template of ours, or `NO_ROUTE`."""
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._request_time.labels(route, method).observe(seconds)

    def uploaded(self, target: str, size_bytes: int) -> None:
        """A caller sent a file to the `store` or to a `session`."""
        self._uploaded.labels(target).inc(size_bytes)

    def downloaded(self, source: str, size_bytes: int) -> None:
        """A caller got so much of a file of the `store` or of a `session`."""
        self._downloaded.labels(source).inc(size_bytes)

    def file_stored(self, origin: FileOrigin, size_bytes: int) -> None:
        """A file is in the store."""
        self._files_stored.labels(origin).inc()
        self._bytes_stored.labels(origin).inc(size_bytes)

    # --- executions -------------------------------------------------------------------------------

    def executed(self, record: ExecutionRecord, timeline: Timeline) -> None:
        """An execution has ended, one way or another."""
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
        """An execution was asked for and not begun."""
        self._executions.labels(kind, outcome).inc()

    def waited(self, kind: str, timeline: Timeline) -> None:
        """Somebody has a kernel now, or a turn."""
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
        """A session was made."""
        self._opened.inc()

    def session_ended(self, reason: SessionEnd) -> None:
        """A session has ended."""
        self._ended.labels(reason).inc()

    def spans(self, result: str, count: int) -> None:
        """Spans were `sent`, or `dropped` since the collector did not take them. From any thread."""
        self._spans.labels(result).inc(count)

    # --- reading ----------------------------------------------------------------------------------

    def look(self, pool: KernelCounts, sessions: tuple[int, int], files: tuple[int, int]) -> None:
        """Note what there is now: kernels; sessions that are ready and busy; files and their bytes."""
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
        """All of it in the format that an `Accept` header asks for, and the media type. For a thread."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type
