"""Errors of `service.operations`."""

from collections.abc import Sequence
from pathlib import Path

from service.errors import StartError
from sessions.isolation.check import CheckResult


class CannotRunKernels(StartError):
    """No container engine can be used. ``reason`` includes what to do about it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Cannot run kernels: {reason}.")
        self.reason = reason


class AddressUnavailable(StartError):
    """The server cannot listen on ``host`` and ``port``."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"Cannot listen on {host}, port {port}: {reason}. Set HOST and PORT to an address that is free."
        )
        self.host = host
        self.port = port
        self.reason = reason


class BackupFailed(StartError):
    """The registry and the files could not be copied to ``folder``. The incomplete copy has been removed."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"Cannot back up to {folder}: {reason}.")
        self.folder = folder
        self.reason = reason


class RestoreFailed(StartError):
    """A backup cannot be restored from ``folder``."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"Cannot restore {folder}: {reason}.")
        self.folder = folder
        self.reason = reason


class SelfTestFailed(StartError):
    """User code would not be isolated. ``failures`` are the isolation checks that failed."""

    def __init__(self, failures: Sequence[CheckResult]) -> None:
        lines = [f"- {check.name}: {check.detail}. Help: {check.advice}." for check in failures]
        super().__init__(
            "The self-test failed: user code would not be isolated, so the service does not run any.\n"
            + "\n".join(lines)
        )
        self.failures = failures
