"""moto's S3 server, which can be set to refuse requests: `server.py ADDRESS PORT`.

It has a virtual environment of its own, because its requirements differ from the service's.
`scripts/lock` makes requirements.lock.
"""

import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_CONTROL = "/_refuse"
_ERROR = "<Error><Code>{code}</Code><Message>{code}</Message></Error>"


class _Refusing:
    """WSGI: another application, or an error."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._error: dict[str, str] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _CONTROL:
            with self._lock:
                pairs = (pair.partition("=") for pair in environ["QUERY_STRING"].split("&") if pair)
                self._error = {name: value for name, _, value in pairs}
            start_response("200 OK", [("Content-Length", "0")])
            return []
        error = self._error
        if error and error.get("method") in ("", None, environ["REQUEST_METHOD"]):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = _ERROR.format(code=error["code"]).encode()
            start_response(f"{error['status']} Refused", [("Content-Length", str(len(body)))])
            return [body]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def main() -> None:
    """Serve until the process is killed."""
    app = _Refusing(DomainDispatcherApplication(create_backend_app))
    run_simple(sys.argv[1], int(sys.argv[2]), app, threaded=True)


if __name__ == "__main__":
    main()
