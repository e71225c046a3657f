"""The Helm chart, rendered by Go's templates and checked by the real API server in a dry run."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import service
from service.settings import load_settings
from sessions.containers.kubernetes.engine import NEEDED
from tests.support.chart import CHART, NAME, Chart, Object, collection_path, hook_of, of_kind
from tests.support.cluster import PodEngine
from tests.support.settings import FIELDS

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
KERNELS = "interpreter-try-kernels"
"""The kernels' namespace of a release in the namespace `interpreter`."""
SHARED: dict[str, Any] = {
    "replicas": 2,
    "persistence": {"enabled": False},
    "env": {"DATABASE_URL": "postgresql://database/one", "FILE_STORAGE_URL": "s3://bucket"},
}
"""Values for replicas."""


@pytest.fixture(scope="module")
def namespace(pods: PodEngine) -> Iterator[str]:
    """Create a namespace for the dry runs."""
    with pods.cluster.namespace() as name:
        yield name


@pytest.mark.parametrize("changes", [{}, MANY], ids=["defaults", "everything"])
def test_api_server_accepts_every_object(
    chart: Chart, pods: PodEngine, namespace: str, changes: Object
) -> None:
    """The server creates each object in a dry run, and drops no field."""
    objects = chart.render(changes)
    assert len(objects) >= 8
    for found in objects:
        # The server drops unknown fields without an error, so compare what it returns.
        created = pods.cluster.call("POST", collection_path(found, namespace), found, dryRun="All")
        assert lacking(found, created) == []


def lacking(sent: Any, returned: Any, path: str = "") -> list[str]:
    """Return the paths of the fields that the server dropped."""
    if sent in ({}, [], None):
        return []
    if isinstance(sent, dict) and isinstance(returned, dict):
        return [name for key in sent for name in lacking(sent[key], returned.get(key), f"{path}.{key}")]
    if isinstance(sent, list) and isinstance(returned, list) and len(sent) == len(returned):
        return [
            name
            for index, item in enumerate(sent)
            for name in lacking(item, returned[index], f"{path}[{index}]")
        ]
    return [path] if isinstance(sent, dict | list) or returned is None else []


def test_account_has_the_rights_that_the_engine_needs_and_no_others(chart: Chart) -> None:
    """The rights are the engine's verbs on pods of one namespace, and none on the cluster."""
    objects = chart.render(MANY)
    assert of_kind(objects, "ClusterRole") == of_kind(objects, "ClusterRoleBinding") == []
    (role,) = (found for found in of_kind(objects, "Role") if hook_of(found) is None)
    (binding,) = (found for found in of_kind(objects, "RoleBinding") if hook_of(found) is None)
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == KERNELS
    pods_rule, events_rule = role["rules"]
    assert (pods_rule["resources"], sorted(pods_rule["verbs"])) == (["pods"], sorted(NEEDED))
    assert (events_rule["resources"], events_rule["verbs"]) == (["events"], ["list"])


def test_deployments_variables_are_valid_settings(chart: Chart, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is a setting, and the service accepts its value."""
    (deployment,) = of_kind(chart.render(MANY), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {"metadata.name": "try-7d9c-x2", "status.podIP": "10.1.2.3", "REPLICA_SECRET": "s" * 48}
    values: dict[str, str] = {}
    for variable in container["env"]:
        source: Object = next(iter(variable.get("valueFrom", {}).values()), {})
        value = variable.get("value") or given[source.get("fieldPath") or source["key"]]
        values[variable["name"]] = value = value.replace("$(POD_IP)", values.get("POD_IP", ""))
        assert variable["name"].lower() in (*FIELDS, "pod_ip")
        monkeypatch.setenv(variable["name"], value)
    # This variable comes from the secret.
    monkeypatch.setenv("DATABASE_URL", "postgresql://database/one")
    monkeypatch.setenv("FILE_STORAGE_URL", "s3://bucket")
    settings = load_settings()
    assert (settings.containers.instance_id, settings.replicas.replica_url) == (
        "try-7d9c-x2",
        "http://10.1.2.3:8000",
    )
    assert settings.engine.executor_backend == "kubernetes"
    assert settings.engine.kubernetes_namespace == KERNELS
    assert dict(settings.engine.kubernetes_node_selector) == {"pool": "kernels", "disk": "ssd"}
    assert (settings.containers.kernel_runtime, settings.pool.pool_size, settings.containers.kernel_cpus) == (
        "gvisor",
        4,
        0.5,
    )
    assert container["envFrom"] == [{"secretRef": {"name": "database"}}]


@pytest.mark.parametrize("values", [{}, MANY, SHARED], ids=["defaults", "everything", "replicas"])
def test_pods_can_be_created_only_where_no_secret_is(chart: Chart, values: Object) -> None:
    """A pod can mount every secret of its namespace. Those of the release are in another one."""
    objects = chart.render(values)
    creating = {
        found["metadata"].get("namespace", "interpreter")
        for found in of_kind(objects, "Role")
        for rule in found["rules"]
        if {"create", "patch", "update", "*"} & set(rule["verbs"])
    }
    assert creating == {KERNELS}
    beside = {found["kind"] for found in objects if found["metadata"].get("namespace") == KERNELS}
    assert beside == {"Role", "RoleBinding", "NetworkPolicy"}
    for binding in of_kind(objects, "RoleBinding"):
        assert binding["subjects"][0]["namespace"] == "interpreter"


def test_chart_creates_the_kernels_namespace_unless_one_is_named(chart: Chart) -> None:
    """The new one takes privileged pods, as PID 1 closes the network. It is for this release alone."""
    (made,) = of_kind(chart.render(), "Namespace")
    assert made["metadata"]["name"] == KERNELS
    assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    (other,) = of_kind(chart.render(namespace="tools"), "Namespace")
    assert other["metadata"]["name"] == "tools-try-kernels"
    named = chart.render({"kernels": {"namespace": "kernels"}})
    assert of_kind(named, "Namespace") == []
    there = {(f["kind"], f["metadata"]["name"]) for f in named if f["metadata"].get("namespace") == "kernels"}
    assert {("Role", NAME), ("RoleBinding", NAME), ("NetworkPolicy", f"{NAME}-kernels")} < there


def test_uninstall_hook_may_only_end_the_release(chart: Chart) -> None:
    """The job reads and deletes one Deployment and the kernels' pods, and gets no calls of the service."""
    objects = [found for found in chart.render(MANY) if hook_of(found) is not None]
    assert {hook_of(found) for found in objects} == {"pre-delete"}
    rules = {found["metadata"].get("namespace"): found["rules"] for found in of_kind(objects, "Role")}
    assert rules == {
        None: [
            {
                "apiGroups": ["apps"],
                "resources": ["deployments"],
                "resourceNames": [NAME],
                "verbs": ["get", "delete"],
            }
        ],
        KERNELS: [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "deletecollection"]}],
    }
    (job,) = of_kind(objects, "Job")
    (service,) = of_kind(chart.render(MANY), "Service")
    template = job["spec"]["template"]
    assert not service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["containers"][0]["args"] == [NAME, KERNELS]
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]


REFUSED: dict[str, tuple[Object, str]] = {
    "kernels beside the secrets of the release": (
        {"kernels": {"namespace": "interpreter"}},
        "kernels.namespace=interpreter is the namespace of the release",
    ),
    "a long name for the kernels' namespace": (
        {"kernels": {"namespace": "k" * 64}},
        "is too long",
    ),
    "a folder for several replicas": (
        {"replicas": 2, "env": SHARED["env"]},
        "replicas never share a folder",
    ),
    "a folder for replicas that come and go": (
        {"autoscaling": {"enabled": True}, "env": SHARED["env"]},
        "replicas never share a folder",
    ),
    "no database": (
        SHARED | {"env": {"FILE_STORAGE_URL": "s3://bucket"}},
        "set DATABASE_URL in env, or name a secret",
    ),
    "no object storage": (
        SHARED | {"env": {"DATABASE_URL": "postgresql://database/one"}},
        "set FILE_STORAGE_URL in env, or name a secret",
    ),
}
"""Values that contradict each other, and a part of the error."""


@pytest.mark.parametrize("name", REFUSED)
def test_chart_refuses(name: str, chart: Chart) -> None:
    """Replicas need a shared database and object storage, and kernels a namespace of their own."""
    values, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        chart.render(values)


@pytest.mark.parametrize("values", [SHARED, SHARED | {"replicas": 1, "replication": {"enabled": True}}])
def test_replicas_are_rolled_and_a_single_one_is_replaced(chart: Chart, values: Object) -> None:
    """A replica ends only after another is ready. Without shared storage two never run at once."""
    (rolled,) = of_kind(chart.render(values), "Deployment")
    assert rolled["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    (replaced,) = of_kind(chart.render(), "Deployment")
    assert replaced["spec"]["strategy"] == {"type": "Recreate"}
    assert "REPLICA_URL" not in str(replaced)


def test_the_replicas_secret_is_made_once(chart: Chart) -> None:
    """An upgrade keeps it, a secret in the values replaces it, and a single replica has none."""
    (first,) = of_kind(chart.render(SHARED), "Secret")
    (other,) = of_kind(chart.render(SHARED), "Secret")
    assert first["data"] != other["data"] and len(first["data"]["REPLICA_SECRET"]) == 64
    (kept,) = of_kind(chart.render(SHARED, existing={first["metadata"]["name"]: first}), "Secret")
    assert kept["data"] == first["data"]
    named = chart.render(SHARED | {"replication": {"secret": "mine"}})
    assert of_kind(named, "Secret") == []
    assert "{'name': 'mine', 'key': 'REPLICA_SECRET'}" in str(of_kind(named, "Deployment"))


def test_key_of_the_registry_is_made_once(chart: Chart) -> None:
    """An upgrade keeps it, a secret in the values replaces it, and replicas have their own secret instead."""
    (first,) = of_kind(chart.render(), "Secret")
    (other,) = of_kind(chart.render(), "Secret")
    assert first["data"] != other["data"] and len(first["data"]["REGISTRY_KEY"]) == 64
    (kept,) = of_kind(chart.render(existing={first["metadata"]["name"]: first}), "Secret")
    assert kept["data"] == first["data"]
    named = chart.render({"registryKey": {"secret": "mine"}})
    assert of_kind(named, "Secret") == []
    assert "{'name': 'mine', 'key': 'REGISTRY_KEY'}" in str(of_kind(named, "Deployment"))
    assert "REGISTRY_KEY" not in str(chart.render(SHARED))


def test_replicas_reach_each_other(chart: Chart) -> None:
    """A network policy that limits the callers of the service allows calls between replicas."""
    callers = {"networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"app": "agent"}}}]}}
    selector = {"app.kubernetes.io/name": "code-interpreter", "app.kubernetes.io/instance": "try"}
    replicas = [{"podSelector": {"matchLabels": selector}}]
    agents: list[Object] = callers["networkPolicy"]["callers"]
    for values, sources in ((SHARED | callers, agents + replicas), (callers, agents)):
        policies = of_kind(chart.render(values), "NetworkPolicy")
        (policy,) = (found for found in policies if found["metadata"]["name"] == NAME)
        assert [source for rule in policy["spec"]["ingress"] for source in rule["from"]] == sources


def test_chart_has_the_version_of_the_service() -> None:
    """Its default image is that of this version."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == service.__version__
