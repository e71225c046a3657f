"""Errors of the `docker` library, as errors of our own."""

import contextlib
from collections.abc import Iterator
from typing import Final

import requests.exceptions
from docker.errors import APIError, DockerException
from docker.errors import ImageNotFound as DockerImageNotFound

from sessions.containers.errors import EngineUnavailable, ImageNotFound, LaunchFailed

_CONFLICT: Final = 409


@contextlib.contextmanager
def library_errors() -> Iterator[None]:
    """Raise our own errors instead of the library's."""
    try:
        yield
    except DockerImageNotFound as error:
        raise ImageNotFound(str(error.explanation)) from error
    except APIError as error:
        raise LaunchFailed(str(error.explanation or error)) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return why the engine cannot be reached, without the tuples in which the libraries wrap the cause."""
    cause: BaseException | None = error
    while cause is not None:
        for found in (cause, *cause.args):
            if isinstance(found, ConnectionRefusedError | FileNotFoundError):
                return f"{found.strerror}: is the Docker engine running?"
            if isinstance(found, PermissionError):
                return f"{found.strerror}: may this user open the engine's socket (group docker)?"
        cause = cause.__cause__ or cause.__context__
    return str(error)


def is_name_conflict(error: APIError) -> bool:
    """Whether a container was refused because another one has its name."""
    return error.status_code == _CONFLICT and "name" in str(error.explanation)
