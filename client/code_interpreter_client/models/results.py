"""How an execution ended."""

from dataclasses import dataclass
from typing import Literal

from code_interpreter_client.errors import CodeInterpreterError
from code_interpreter_client.models.images import Image
from code_interpreter_client.models.outputs import Output
from code_interpreter_client.models.result_view import result_bundle
from code_interpreter_client.models.untrusted_html import Bundle

State = Literal["kept", "restarted", "discarded"]


@dataclass(frozen=True)
class ResultFile:
    """A file that the code created or changed. It is stored as `file_id`."""

    path: str
    file_id: str
    size_bytes: int


@dataclass(frozen=True)
class SkippedFile:
    """A file that the code created or changed and that was not stored; `reason` says why."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class ExecutionError:
    """Why the code did not finish: an exception, or a limit such as `TimeoutExceeded`."""

    name: str
    value: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What code used. `memory_bytes` is the most that it held, beyond the memory of an idle kernel."""

    memory_bytes: int
    memory_limit_bytes: int
    cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """How an execution ended.

    `outputs` has what was printed and displayed, in that order; `displays` has the rich outputs alone, and
    `stdout` and `stderr` have all of the text. `exit_code` is the one that a shell would report, or None
    after a timeout. `state` says what became of the variables, and `state_reason` why. `truncated` names the
    parts that were cut: `stdout`, `stderr`, `outputs`. `notice` says what was done between the calls to
    processes that earlier calls left behind, or that memory runs low. `usage` is None if the service is older
    than this field.
    """

    exit_code: int | None
    timed_out: bool
    duration_ms: int
    stdout: str = ""
    stderr: str = ""
    outputs: tuple[Output, ...] = ()
    files: tuple[ResultFile, ...] = ()
    error: ExecutionError | None = None
    state: State = "discarded"
    state_reason: str = ""
    execution_count: int | None = None
    execution_id: str = ""
    cell_id: str | None = None
    truncated: tuple[str, ...] = ()
    skipped_files: tuple[SkippedFile, ...] = ()
    usage: Usage | None = None
    notice: str = ""

    @property
    def ok(self) -> bool:
        """Whether the code finished with exit code 0."""
        return self.exit_code == 0 and self.error is None

    @property
    def failure(self) -> str:
        """Why it is not `ok`, in one line; empty if it is."""
        if self.error is not None:
            return f"{self.error.name}: {self.error.value}".removesuffix(": ")
        if self.timed_out:
            return "the code timed out"
        return "" if self.exit_code == 0 else f"the code ended with exit code {self.exit_code}"

    @property
    def displays(self) -> list[Output]:
        """The rich outputs, without the text among them."""
        return [output for output in self.outputs if output.output_type != "stream"]

    @property
    def images(self) -> list[Image]:
        """One image for each output that has any."""
        return [output.images[0] for output in self.outputs if output.images]

    def summary(self, most_characters: int = 10_000) -> str:
        """Return text for a language model: what was printed, and the names of files that were written.

        Of stdout and stderr, each over `most_characters` loses its middle.
        """
        parts = [_shortened(text, most_characters) for text in (self.stdout, self.stderr) if text]
        if self.failure and not self.stderr:
            parts.append(f"[{self.failure}]")
        if self.images:
            parts.append(f"[images shown: {len(self.images)}]")
        if self.files:
            parts.append("[files written: " + ", ".join(file.path for file in self.files) + "]")
        return "\n".join(part.rstrip("\n") for part in parts) or "[nothing was printed]"

    def check(self) -> "Result":
        """Return this result if it is `ok`. Raises `CodeFailed` if not."""
        if not self.ok:
            raise CodeFailed(self)
        return self

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        notice = self.failure if self.timed_out else ""
        return result_bundle(self.stdout, self.stderr, self.outputs, notice)


class CodeFailed(CodeInterpreterError):
    """The code failed, timed out or ended with an exit code other than 0. Raised by `Result.check`."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.failure or "the code failed")
        self.result = result


def _shortened(text: str, length: int) -> str:
    """Return `text` without its middle if it is longer than `length`."""
    if len(text) <= length:
        return text
    cut = len(text) - length
    return f"{text[: length // 2]}\n[{cut} characters left out]\n{text[len(text) - length // 2 :]}"
