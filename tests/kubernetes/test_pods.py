"""A kernel's pod: its limits, its secrets, and its end."""

import json
import os
import signal
from typing import Any

import pytest

from kernel_image import contract
from tests.support.api import check_result
from tests.support.cluster import PodEngine
from tests.support.process import Service
from tests.support.session import new_session

MIB = 1 << 20

Object = dict[str, Any]


@pytest.fixture
def pod(on_pods: Service, pods: PodEngine) -> Object:
    """Return a pod that is ready in the pool."""
    on_pods.settle()
    return pods.pods(on_pods.instance_id)[0]


def test_a_pod_has_every_limit(pod: Object) -> None:
    """The API server shows all of them; none depends on a cluster's defaults."""
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["activeDeadlineSeconds"] > 86_400
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False and security["privileged"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" not in security["capabilities"]["add"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert {volume["emptyDir"]["medium"] for volume in spec["volumes"]} == {"Memory"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"])
    assert len(spec["volumes"]) == len(container["volumeMounts"]) == 4
    assert pod["metadata"]["labels"][contract.ROLE_LABEL] == contract.ROLE


def test_no_secret_is_in_the_cluster(on_pods: Service, pods: PodEngine) -> None:
    """No pod, secret or map of the namespace has a supervisor's token or a kernel's key."""
    on_pods.settle()
    secrets = {secret for both in on_pods.container_secrets().values() for secret in both}
    assert len(secrets) >= 2 and all(len(secret) >= 32 for secret in secrets)
    base = f"/api/v1/namespaces/{pods.namespace}"
    everything = json.dumps(
        [pods.cluster.call("GET", f"{base}/{kind}") for kind in ("pods", "secrets", "configmaps", "events")]
    )
    assert contract.TOKEN_DIGEST_VARIABLE in everything
    assert not [secret for secret in secrets if secret in everything]


def test_every_isolation_check_holds_on_a_pod(on_pods: Service) -> None:
    """The self-test has passed. It names the substitutes for what a pod cannot have."""
    report = {check["name"]: check for check in on_pods.api.http.get("/ready").json()["self_test"]}
    assert len(report) > 20 and all(check["ok"] for check in report.values())
    assert report["processes"]["detail"] == "at most 64, which the supervisor counts"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "import subprocess, time\nfor _ in range(200): subprocess.Popen(['sleep', '30'])\ntime.sleep(20)",
            id="processes",
        ),
        pytest.param(
            "import threading, time\n"
            "for _ in range(200): threading.Thread(target=time.sleep, args=(30,)).start()\ntime.sleep(20)",
            id="threads",
        ),
        pytest.param("import os\nwhile True: os.fork()", id="bomb"),
    ],
)
def test_too_many_processes_end_the_call(on_pods: Service, code: str) -> None:
    """A pod has no limit of processes. The supervisor counts them, kills all, and says why."""
    result = on_pods.api.run(code, timeout_ms=25_000)
    check_result(result)
    assert result["exit_code"] == 137, result
    assert "killed: more than 64 processes and threads (" in result["stderr"]
    assert on_pods.api.run("print(1)")["stdout"] == "1\n"


def test_too_many_files_end_the_call_and_can_be_deleted(on_pods: Service) -> None:
    """A pod's folders have no limit of files. The supervisor counts them, and keeps those that exist."""
    make = "import os\nfor i in range(10**7): os.close(os.open(f'/tmp/{i}', os.O_CREAT))"
    with new_session(on_pods) as session:
        session.run("open('kept.txt', 'w').write('kept')")
        result = session.run(make, timeout_ms=25_000)
        assert result["exit_code"] == 137, result
        assert "killed: more than 32768 files in /tmp\n" in result["stderr"]
        assert session.printed("print(open('kept.txt').read())") == "kept"
        assert session.run(make.replace("{i}", "more{i}"), timeout_ms=25_000)["exit_code"] == 137
        session.bash("find /tmp -type f -delete", timeout_ms=25_000)
        # The file of the program is in there.
        assert session.printed("import os; print(os.listdir('/tmp'))") == "['program']"


def test_a_session_goes_on_after_too_many_processes(on_pods: Service) -> None:
    """Its kernel is replaced, and its files stay."""
    with new_session(on_pods) as session:
        session.run("open('kept.txt', 'w').write('kept')")
        session.bash("for i in $(seq 200); do sleep 30 & done; wait", timeout_ms=20_000)
        assert session.printed("print(open('kept.txt').read())") == "kept"


def test_pod_whose_lease_ran_out_is_removed(on_pods: Service, pods: PodEngine) -> None:
    """PID 1 ends by itself. The pod is removed, and another one replaces it in the pool."""
    before = on_pods.settle()
    victim = min(before)
    pid = pods.inspect(victim)["State"]["Pid"]
    os.kill(pid, signal.SIGTERM)
    path = f"/api/v1/namespaces/{pods.namespace}/pods"
    pods.cluster.wait_until(
        lambda: victim not in {pod["metadata"]["name"] for pod in pods.cluster.call("GET", path)["items"]}
    )
    assert victim not in on_pods.settle()
