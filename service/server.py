"""The command ``code-interpreter-api``."""

import signal
import sys

from service.app import create_app
from service.errors import StartError
from service.lifespan import lifespan
from service.routes import execute, files, health, session_files, sessions
from service.serving import bind, configure_logging, serve
from service.settings import load_settings


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then stop in order and exit with 0.

    Exits with 2 on bad settings, and with 1 or 3 when the service cannot start.
    """
    # Once it has stopped in order, the server sends itself the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings()
    except StartError as error:
        sys.exit(_complain(error, 2))
    configure_logging(settings.log_level)
    app = create_app(
        settings,
        lifespan,
        (health.router, execute.router, files.router, session_files.router, sessions.router),
    )
    try:
        with bind(settings.host, settings.port) as sock:
            serve(app, settings.host, sock, settings.client_timeout_sec)
    except StartError as error:
        sys.exit(_complain(error, 1))
    except KeyboardInterrupt:
        sys.exit(0)


def _complain(error: StartError, exit_code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return exit_code


if __name__ == "__main__":
    main()
