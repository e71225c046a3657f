"""Where the service is and who asks: arguments, else the environment. The one reader of the environment."""

import os
from pathlib import Path
from typing import Final

import httpx

URL_VARIABLE: Final = "CODE_INTERPRETER_URL"
KEY_VARIABLE: Final = "CODE_INTERPRETER_API_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8000"


def service_url(given: str | None) -> httpx.URL:
    """The service's address, to which paths are added.

    Raises:
        ValueError: it is none; the text is a sentence.
    """
    text = given or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"{text!r} is no address of a service: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{text!r} is no address of a service, which is like {DEFAULT_URL}")
    return url


def headers(given: str | None) -> dict[str, str]:
    """What every request carries: the API key, if there is one.

    Raises:
        ValueError: no header can carry that key.
    """
    key = given if given is not None else os.environ.get(KEY_VARIABLE, "")
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise ValueError("The API key has characters that no key has")
    return {"Authorization": f"Bearer {key}"}


def state_folder() -> Path:
    """Where the command line keeps what lasts: its history."""
    states = os.environ.get("XDG_STATE_HOME")
    return Path(states or Path.home() / ".local" / "state") / "code-interpreter"
