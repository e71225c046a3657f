"""The service's address and the API key: from arguments, else from the environment.

No other module of the client reads the environment.
"""

import os
import re
from pathlib import Path
from typing import Final

import httpx

URL_VARIABLE: Final = "CODE_INTERPRETER_URL"
KEY_VARIABLE: Final = "CODE_INTERPRETER_API_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8000"

_USABLE_KEY: Final = re.compile(r"[\x21-\x7e]+")


def service_url(given: str | None) -> httpx.URL:
    """Return the service's address: `given`, else the environment's, else the default.

    Raises:
        ValueError: it is not an HTTP address; the text says what to do.
    """
    text = given or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError) as error:
        raise _invalid_url(text) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise _invalid_url(text)
    return url


def _invalid_url(text: object) -> ValueError:
    return ValueError(
        f"{text!r} is not the address of a service. Set {URL_VARIABLE} or give a URL like {DEFAULT_URL}."
    )


def headers(given: str | None) -> dict[str, str]:
    """Return the headers that every request carries: the API key, if there is one.

    Raises:
        ValueError: the key has a character that a key cannot have. The text does not contain the key.
    """
    key = given if given is not None else os.environ.get(KEY_VARIABLE, "")
    if not key:
        return {}
    if not _USABLE_KEY.fullmatch(key):
        raise ValueError(f"The API key contains a space or a character outside ASCII. Check {KEY_VARIABLE}.")
    return {"Authorization": f"Bearer {key}"}


def state_folder() -> Path:
    """Return the folder in which the command line keeps its history."""
    states = os.environ.get("XDG_STATE_HOME")
    return Path(states or Path.home() / ".local" / "state") / "code-interpreter"
