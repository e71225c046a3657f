"""An IPython kernel on this machine without a container: the lower bound for running a cell."""

from types import TracebackType
from typing import Any, Self

from jupyter_client.manager import KernelManager


class LocalKernel:
    """A kernel that runs during a `with` block."""

    def __enter__(self) -> Self:
        self._manager: Any = KernelManager()
        self._manager.start_kernel()
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def execute(self) -> None:
        """Run `1+1` and wait until the kernel is idle."""
        self._client.execute_interactive("1+1", output_hook=lambda _: None, timeout=30)
