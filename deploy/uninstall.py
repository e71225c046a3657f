"""Ends a release of the chart before Helm deletes it: stops the service, then deletes the kernels' pods.

    python -m deploy.uninstall DEPLOYMENT NAMESPACE-OF-KERNELS

The service is stopped first, because it replaces pods that are gone. The program runs in a pod, with that
pod's account. It needs nothing but Python.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_KERNELS: Final = "labelSelector=code-interpreter.role%3Dkernel"
_CALL_SEC: Final = 30
_PAUSE_SEC: Final = 1.0
_WAIT_SEC: Final = 240.0
"""Helm waits five minutes for a job, unless the caller sets another time."""
_NOT_FOUND: Final = 404


def main() -> None:
    """Do it, and exit with a message if it cannot be done in time."""
    deployment, kernels = sys.argv[1:]
    own = (_ACCOUNT / "namespace").read_text().strip()
    service = f"/apis/apps/v1/namespaces/{own}/deployments/{deployment}"
    pods = f"/api/v1/namespaces/{kernels}/pods?{_KERNELS}"
    # In the foreground: the Deployment exists until the last pod of the service has ended.
    _call("DELETE", service, {"propagationPolicy": "Foreground"})
    _wait_until("the service has stopped", lambda: _call("GET", service) is None)
    _call("DELETE", pods, {"gracePeriodSeconds": 0})
    _wait_until("the kernels' pods are gone", lambda: not (_call("GET", pods) or {}).get("items"))


def _call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Call the cluster's API, and return its answer; None if the object is not there."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    request = urllib.request.Request(
        f"https://{f'[{host}]' if ':' in host else host}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(_ACCOUNT / 'token').read_text().strip()}",
            "Content-Type": "application/json",
        },
    )
    trust = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=_CALL_SEC, context=trust) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as refusal:
        if refusal.code == _NOT_FOUND:
            return None
        sys.exit(f"{method} {path}: {refusal.code} {refusal.read(500).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{method} {path}: {error}")


def _wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SEC
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"waited {_WAIT_SEC:g} s in vain until {what}")
        time.sleep(_PAUSE_SEC)
    sys.stdout.write(f"{what}\n")


if __name__ == "__main__":
    main()
