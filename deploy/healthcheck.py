"""Checks whether the service in this container is ready: exit status 0, or 1 and a sentence."""

import os
import sys
import urllib.error
import urllib.request

_EVERYWHERE = ("", "0.0.0.0", "::")
_SECONDS = 4


def main() -> None:
    """Call `GET /ready`, and exit."""
    host = os.environ.get("HOST", "")
    host = "127.0.0.1" if host in _EVERYWHERE else host
    if ":" in host:
        host = f"[{host}]"
    url = f"http://{host}:{os.environ.get('PORT') or 8000}/ready"
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    try:
        with ask(url, timeout=_SECONDS):
            return
    except urllib.error.HTTPError as refusal:
        sys.exit(f"{url}: {refusal.code} {refusal.read(500).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
