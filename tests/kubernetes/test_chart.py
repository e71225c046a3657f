"""The Helm chart, rendered by Go's own templates and taken by the real API server in a dry run."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import service
from service.settings import Settings
from sessions.pods.engine import NEEDED
from tests.support.cluster import PodEngine
from tests.support.process import ROOT

CHART = ROOT / "deploy/chart"
RENDERER = Path(__file__).parent / "render.go"
OLDER = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}
"""What the tests' API server, of 1.20, calls the same."""
MANY: dict[str, Any] = {
    "replicas": 3,
    "persistence": {"enabled": False},
    "autoscaling": {"enabled": True},
    "env": {"POOL_SIZE": 4, "KERNEL_CPUS": 0.5},
    "envFromSecrets": ["database"],
    "image": {"pullSecrets": ["registry"]},
    "kernels": {"runtimeClassName": "gvisor", "nodeSelector": {"pool": "kernels", "disk": "ssd"}},
    "networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"app": "agent"}}}]},
    "nodeSelector": {"pool": "services"},
    "tolerations": [{"key": "services", "operator": "Exists"}],
    "podAnnotations": {"prometheus.io/scrape": "true"},
}
"""Values that use every part of the chart."""

Object = dict[str, Any]


def merged(values: Object, changes: Object) -> Object:
    """Values with others in their place, as Helm merges them."""
    found = values | {}
    for name, value in changes.items():
        inner = isinstance(value, dict) and isinstance(values.get(name), dict)
        found[name] = merged(values[name], value) if inner else value
    return found


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The renderer, compiled."""
    if shutil.which("go") is None:
        pytest.skip("Go is not there to render the chart: `make test-kubernetes` installs it")
    program = tmp_path_factory.mktemp("renderer") / "render"
    environment = os.environ | {"GO111MODULE": "off", "GOCACHE": str(program.parent / "cache"), "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", program, RENDERER], env=environment, check=True)
    return program


@pytest.fixture(scope="module")
def render(renderer: Path) -> Callable[..., list[Object]]:
    """The chart's objects with some values changed; `ValueError` with the chart's own words."""

    def objects(changes: Object | None = None) -> list[Object]:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        given = {
            "Templates": {path.name: path.read_text() for path in (CHART / "templates").iterdir()},
            "Values": merged(yaml.safe_load((CHART / "values.yaml").read_text()), changes or {}),
            "Release": {"Name": "try", "Namespace": "interpreter", "Service": "Helm"},
            "Chart": {name[0].upper() + name[1:]: value for name, value in chart.items()},
        }
        ended = subprocess.run(
            [renderer], input=json.dumps(given), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise ValueError(ended.stderr)
        texts = json.loads(ended.stdout).values()
        return [found for text in texts for found in yaml.safe_load_all(text) if found]

    return objects


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those of a kind."""
    return [found for found in objects if found["kind"] == kind]


@pytest.fixture(scope="module")
def namespace(pods: PodEngine) -> Iterator[str]:
    """A namespace to try objects in."""
    with pods.cluster.namespace() as name:
        yield name


@pytest.mark.parametrize("changes", [{}, MANY], ids=["defaults", "everything"])
def test_the_api_server_takes_every_object(
    render: Callable[..., list[Object]], pods: PodEngine, namespace: str, changes: Object
) -> None:
    """Each is created in a dry run: known fields alone, of the right types, with sensible values."""
    objects = render(changes)
    assert len(objects) >= 8
    for found in objects:
        asked = str(found["apiVersion"])
        version = OLDER.get(asked, asked)
        found |= {"apiVersion": version, "metadata": found["metadata"] | {"namespace": namespace}}
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural = found["kind"].lower() + "s"
        plural = plural.replace("policys", "policies")
        # A field that the server does not know it would drop in silence: what comes back has to have all.
        taken = pods.cluster.call("POST", f"{base}/namespaces/{namespace}/{plural}", found, dryRun="All")
        assert lacking(found, taken) == []


def lacking(asked: Any, got: Any, place: str = "") -> list[str]:
    """What of an object the server has dropped."""
    if asked in ({}, [], None):
        return []
    if isinstance(asked, dict) and isinstance(got, dict):
        return [name for key in asked for name in lacking(asked[key], got.get(key), f"{place}.{key}")]
    if isinstance(asked, list) and isinstance(got, list) and len(asked) == len(got):
        return [name for at, one in enumerate(asked) for name in lacking(one, got[at], f"{place}[{at}]")]
    return [place] if isinstance(asked, dict | list) or got is None else []


def test_the_account_may_do_what_the_service_does_and_no_more(render: Callable[..., list[Object]]) -> None:
    """Pods of one namespace, with the verbs that the engine needs; nothing of the cluster's."""
    objects = render()
    assert of_kind(objects, "ClusterRole") == of_kind(objects, "ClusterRoleBinding") == []
    (role,) = of_kind(objects, "Role")
    pods_rule, events_rule = role["rules"]
    assert (pods_rule["resources"], sorted(pods_rule["verbs"])) == (["pods"], sorted(NEEDED))
    assert (events_rule["resources"], events_rule["verbs"]) == (["events"], ["list"])


def test_the_settings_of_the_deployment_are_settings(
    render: Callable[..., list[Object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable has a field, and the service takes the values."""
    (deployment,) = of_kind(render(MANY), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        assert variable["name"].lower() in Settings.model_fields
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = Settings()
    assert settings.executor_backend == "kubernetes"
    assert settings.kubernetes_namespace == "interpreter"
    assert dict(settings.kubernetes_node_selector) == {"pool": "kernels", "disk": "ssd"}
    assert (settings.kernel_runtime, settings.pool_size, settings.kernel_cpus) == ("gvisor", 4, 0.5)
    assert container["envFrom"] == [{"secretRef": {"name": "database"}}]


def test_kernels_may_be_in_a_namespace_of_their_own(render: Callable[..., list[Object]]) -> None:
    """Role, binding and policy are there, the service where the release is."""
    objects = render({"kernels": {"namespace": "kernels"}})
    there = {
        found["metadata"]["name"] for found in objects if found["metadata"].get("namespace") == "kernels"
    }
    assert there == {"try-code-interpreter", "try-code-interpreter-kernels"}
    (binding,) = of_kind(objects, "RoleBinding")
    assert binding["subjects"][0]["namespace"] == "interpreter"


def test_replicas_do_not_share_a_folder(render: Callable[..., list[Object]]) -> None:
    """Scaling out with the files on a volume is refused, with a sentence."""
    with pytest.raises(ValueError, match="two services never share a folder"):
        render({"autoscaling": {"enabled": True}})


def test_the_chart_is_of_this_version() -> None:
    """Its image is that of the service beside it."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == service.__version__
