"""The Helm chart, rendered by Go's own templates, and given to the tests' API server."""

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
"""What the release's objects are called."""
_RENDERER: Final = ROOT / "tests/kubernetes/render.go"
_OLDER: Final = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}
"""What the tests' API server, of 1.20, calls the same."""

Object = dict[str, Any]


def merged(values: Object, changes: Object) -> Object:
    """Values with others in their place, as Helm merges them."""
    found = values | {}
    for name, value in changes.items():
        inner = isinstance(value, dict) and isinstance(values.get(name), dict)
        found[name] = merged(values[name], value) if inner else value
    return found


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those of a kind."""
    return [found for found in objects if found["kind"] == kind]


class Chart:
    """The chart, and its renderer, which is compiled on construction. Without Go tests are skipped."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("go") is None:
            pytest.skip("Go is not there to render the chart: `make test-kubernetes` installs it")
        self._renderer = folder / "render"
        environment = os.environ | {"GO111MODULE": "off", "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", self._renderer, _RENDERER], env=environment, check=True)

    def render(
        self,
        changes: Object | None = None,
        namespace: str = "interpreter",
        there: Object | None = None,
    ) -> list[Object]:
        """Its objects with some values changed; `there` is what the cluster has already, by name.

        Raises:
            ValueError: it refuses; the text has the chart's own words.
        """
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        given = {
            "Templates": {path.name: path.read_text() for path in (CHART / "templates").iterdir()},
            "Values": merged(yaml.safe_load((CHART / "values.yaml").read_text()), changes or {}),
            "Release": {"Name": RELEASE, "Namespace": namespace, "Service": "Helm"},
            "Chart": {name[0].upper() + name[1:]: value for name, value in chart.items()},
            "There": there or {},
        }
        ended = subprocess.run(
            [self._renderer], input=json.dumps(given), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise ValueError(ended.stderr)
        texts = json.loads(ended.stdout).values()
        return [found for text in texts for found in yaml.safe_load_all(text) if found]


def place_of(found: Object, namespace: str) -> str:
    """Where the API server keeps objects of this kind; the object is changed to what that server takes."""
    asked = str(found["apiVersion"])
    version = found["apiVersion"] = _OLDER.get(asked, asked)
    found["metadata"]["namespace"] = namespace
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = (found["kind"].lower() + "s").replace("policys", "policies")
    return f"{base}/namespaces/{namespace}/{plural}"


def apply(cluster: Cluster, objects: list[Object], namespace: str) -> None:
    """Create them, or put them in the place of what has their names."""
    for found in objects:
        place, name = place_of(found, namespace), found["metadata"]["name"]
        there = next(_named(cluster, place, name), None)
        if there is None:
            cluster.call("POST", place, found)
        elif found["kind"] not in ("Service", "PersistentVolumeClaim"):
            found["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
            cluster.call("PUT", f"{place}/{name}", found)


def _named(cluster: Cluster, place: str, name: str) -> Iterator[Object]:
    yield from cluster.call("GET", place, fieldSelector=f"metadata.name={name}")["items"]
