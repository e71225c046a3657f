"""Errors of `service.auth`."""

from pathlib import Path

from service.errors import StartError
from sessions.errors import CallFailed


class TooManyRequests(CallFailed):
    """The key is over its request rate. It may send the next request after ``retry_after_sec`` seconds."""

    def __init__(self, per_minute: int, retry_after_sec: float) -> None:
        super().__init__(f"This key may send KEY_REQUESTS_PER_MINUTE={per_minute} requests a minute")
        self.per_minute = per_minute
        self.retry_after_sec = retry_after_sec


class TooManyWrongKeys(CallFailed):
    """The address has sent too many wrong keys. After ``retry_after_sec`` seconds the next one gets 401."""

    def __init__(self, per_minute: int, retry_after_sec: float) -> None:
        super().__init__(
            "The API key is not valid, and this address has sent too many such keys: "
            f"WRONG_KEYS_PER_MINUTE={per_minute}"
        )
        self.per_minute = per_minute
        self.retry_after_sec = retry_after_sec


class KeyMissing(CallFailed):
    """The request has no API key, and the path needs one."""

    def __init__(self) -> None:
        super().__init__("An API key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")


class KeyInvalid(CallFailed):
    """The request has an invalid key, or two different keys."""

    def __init__(self) -> None:
        super().__init__("The API key is not valid")


class KeyFileInvalid(StartError):
    """The file of ``API_KEYS_FILE`` cannot be read or is invalid. ``reason`` contains no key."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"API_KEYS_FILE={path} cannot be used: {reason}.")
        self.path = path
        self.reason = reason
