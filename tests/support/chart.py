"""Renders the Helm chart with Go's own templates, and creates its objects in the tests' cluster."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.cluster import Cluster
from tests.support.process import ROOT

CHART: Final = ROOT / "deploy/chart"
RELEASE: Final = "try"
NAME: Final = "try-code-interpreter"
"""Name of the release's objects."""
_HOOK: Final = "helm.sh/hook"
_RENDERER: Final = ROOT / "tests/kubernetes/render.go"
_OLDER: Final = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}
"""API versions of the chart, and their names on the tests' API server (Kubernetes 1.20)."""

Object = dict[str, Any]


def merged(values: Object, changes: Object) -> Object:
    """Return values with changes merged into them, as Helm merges them."""
    found = values | {}
    for name, value in changes.items():
        inner = isinstance(value, dict) and isinstance(values.get(name), dict)
        found[name] = merged(values[name], value) if inner else value
    return found


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]


class Chart:
    """The chart with its renderer. The constructor compiles the renderer, and skips the test without Go."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("go") is None:
            pytest.skip("rendering the chart needs Go: `make test-kubernetes` installs it")
        self._renderer = folder / "render"
        environment = os.environ | {"GO111MODULE": "off", "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", self._renderer, _RENDERER], env=environment, check=True)

    def render(
        self,
        changes: Object | None = None,
        namespace: str = "interpreter",
        existing: Object | None = None,
    ) -> list[Object]:
        """Return the chart's objects, rendered with changed values.

        `existing` has the objects that the template function `lookup` finds in the cluster, by name.

        Raises:
            ValueError: The chart refuses the values. The text is the chart's message.
        """
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        given = {
            "Templates": {path.name: path.read_text() for path in (CHART / "templates").iterdir()},
            "Values": merged(yaml.safe_load((CHART / "values.yaml").read_text()), changes or {}),
            "Release": {"Name": RELEASE, "Namespace": namespace, "Service": "Helm"},
            "Chart": {name[0].upper() + name[1:]: value for name, value in chart.items()},
            "Existing": existing or {},
        }
        ended = subprocess.run(
            [self._renderer], input=json.dumps(given), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise ValueError(ended.stderr)
        texts = json.loads(ended.stdout).values()
        return [found for text in texts for found in yaml.safe_load_all(text) if found]


def collection_path(found: Object, namespace: str) -> str:
    """Return the API path for objects of this kind.

    The object's API version and namespace are changed to those that the tests' API server needs.
    """
    newest = str(found["apiVersion"])
    version = found["apiVersion"] = _OLDER.get(newest, newest)
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if found["kind"] == "Namespace":
        return f"{base}/namespaces"
    found["metadata"]["namespace"] = namespace
    plural = (found["kind"].lower() + "s").replace("policys", "policies")
    return f"{base}/namespaces/{namespace}/{plural}"


def hook_of(found: Object) -> str | None:
    """Return when Helm creates an object that is no part of the release, such as `pre-delete`; or None."""
    hook: str | None = found["metadata"].get("annotations", {}).get(_HOOK)
    return hook


def in_order(objects: list[Object]) -> list[Object]:
    """Return the objects in Helm's order: namespaces first, and jobs last."""
    order = {"Namespace": 0, "Job": 2}
    return sorted(objects, key=lambda found: order.get(found["kind"], 1))


def _path_and_name(found: Object, namespace: str) -> tuple[str, str]:
    """Return the collection and the name of an object of a release that is in `namespace`."""
    metadata = found["metadata"]
    return collection_path(found, metadata.get("namespace", namespace)), metadata["name"]


def delete(cluster: Cluster, objects: list[Object], namespace: str) -> None:
    """Delete the objects that exist, in the reverse of Helm's order."""
    for found in reversed(in_order(objects)):
        path, name = _path_and_name(found, namespace)
        if next(_named(cluster, path, name), None) is not None:
            cluster.call("DELETE", f"{path}/{name}", {"propagationPolicy": "Background"})


def apply(cluster: Cluster, objects: list[Object], namespace: str) -> None:
    """Create the objects, or change the existing objects with the same names, as Helm does: by patches.

    A patch names no version, so a controller that changes the object meanwhile is no conflict.
    """
    for found in in_order(objects):
        path, name = _path_and_name(found, namespace)
        existing = next(_named(cluster, path, name), None)
        if existing is None:
            cluster.call("POST", path, found)
        elif found["kind"] not in ("Namespace", "Service", "PersistentVolumeClaim"):
            cluster.patch(f"{path}/{name}", found)


def _named(cluster: Cluster, path: str, name: str) -> Iterator[Object]:
    yield from cluster.call("GET", path, fieldSelector=f"metadata.name={name}")["items"]
