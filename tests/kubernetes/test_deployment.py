"""The service in the cluster, as the chart deploys it: several replicas, and a single one with a disk."""

import re
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from tests.deploy.container import SERVICE_IMAGE
from tests.support.api import Api, problem
from tests.support.chart import NAME, Chart
from tests.support.cluster import Cluster, PodEngine
from tests.support.deployment import Deployment, Replica, balanced
from tests.support.object_storage import ObjectStorageServer
from tests.support.postgres import Postgres
from tests.support.process import Service
from tests.support.session import Session, open_session

pytestmark = pytest.mark.timeout(300)

LEASE_SEC = 5
SETTINGS: dict[str, Any] = {
    "KERNEL_PRELOAD": "none",
    "POOL_SIZE": 2,
    "MAX_SESSIONS": 50,
    "MAX_CONTAINERS": 20,
    "MAX_EXEC_TIMEOUT_MS": 60_000,
    "CPU_TIME_LIMIT_SEC": 30,
    "QUEUE_TIMEOUT_SEC": 8,
}


def gateway() -> str:
    """Return this machine's address, as pods see it."""
    shown = subprocess.run(
        ["ip", "-4", "-o", "address", "show", "docker0"], stdout=subprocess.PIPE, check=True
    )
    found = re.search(rb"inet ([0-9.]+)", shown.stdout)
    assert found is not None
    return found[1].decode()


@pytest.fixture(scope="module")
def shared_state() -> Iterator[dict[str, str]]:
    """Return the settings of a database and an object storage that pods can reach."""
    postgres, storage = Postgres(gateway()), ObjectStorageServer(gateway())
    yield {"DATABASE_URL": postgres.new(), **storage.settings(storage.new())}
    storage.close()
    postgres.close()


@pytest.fixture(scope="module")
def deployment(pods: PodEngine, chart: Chart, shared_state: dict[str, str]) -> Iterator[Deployment]:
    """Deploy two replicas."""
    with pods.cluster.namespace() as namespace:
        made = Deployment(
            pods.cluster,
            namespace,
            chart,
            SERVICE_IMAGE,
            replicas=2,
            persistence={"enabled": False},
            drainSeconds=2,
            env=SETTINGS | shared_state | {"REPLICA_LEASE_SEC": LEASE_SEC},
        )
        yield made


@pytest.fixture(scope="module", autouse=True)
def alone(pods: PodEngine, chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[None]]:
    """Run the test of a single replica with a disk beside the other tests."""
    folder = tmp_path_factory.mktemp("volume")
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(_restarted, pods.cluster, chart, folder)


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> Iterator[Api]:
    """Return a client that uses all addresses of the service."""
    api = balanced(deployment)
    yield api
    api.close()


@pytest.fixture
def two(deployment: Deployment) -> Iterator[tuple[Replica, Replica]]:
    """Wait until both replicas are ready, and return them."""
    deployment.settle()
    first, second = deployment.replicas()
    yield first, second
    for replica in (first, second):
        replica.api.close()


def opened(api: Api) -> Session:
    """Open a session through a client."""
    return open_session(cast(Service, None), api)


def end(api: Api, session: Session) -> None:
    """Delete a session, once its replica is ready."""

    def delete() -> None:
        response = through(api, session).delete()
        assert response.status_code == 204, response.status_code

    soon(delete)


def through(api: Api, session: Session) -> Session:
    """Return the same session through another client."""
    return Session(session.service, session.created, api)


def soon(work: Callable[[], Any], seconds: float = 30) -> Any:
    """Repeat `work` until it is not answered with 503, and return its result."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except (AssertionError, httpx.TransportError) as error:
            if time.monotonic() > deadline or not (
                "503" in str(error) or isinstance(error, httpx.TransportError)
            ):
                raise
            time.sleep(0.3)


# --- the account, and what belongs to whom ----------------------------------------------------------


def test_service_runs_with_the_charts_role(deployment: Deployment, two: tuple[Replica, Replica]) -> None:
    """It uses the account of its pod. The ReplicaSet that owns the service's pods owns the kernels too."""
    for replica in two:
        mode = (
            f"mode: Kubernetes; kernels are pods of namespace {deployment.namespace} at https://10.96.0.1:443"
        )
        assert mode in deployment.log(replica.name)
        assert replica.api.run("print(6 * 7)")["stdout"] == "42\n"
        assert replica.api.http.get("/ready").json()["instance_id"] == replica.name
    owners = {str(pod["metadata"]["ownerReferences"][0]["uid"]) for pod in deployment.pods()}
    kernels = deployment.kernels()
    assert kernels
    for kernel in kernels:
        (owner,) = kernel["metadata"]["ownerReferences"]
        assert owner["kind"] == "ReplicaSet" and {owner["uid"]} == owners
        assert kernel["spec"]["containers"][0]["image"] and "volumes" in kernel["spec"]
        assert kernel["spec"]["automountServiceAccountToken"] is False


# --- losses -----------------------------------------------------------------------------------------


def kill_container(cluster: Cluster, namespace: str, name: str) -> None:
    """Kill the service in a pod. The pod stays and gets another container."""
    pod = cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    container_id = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("docker://")
    subprocess.run(["docker", "kill", container_id], check=True, stdout=subprocess.DEVNULL)


def delete_pod(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a pod as `kubectl delete pod --grace-period=0 --force` does."""
    cluster.delete_pod(namespace, name)


@pytest.mark.parametrize("strike", [kill_container, delete_pod])
def test_sessions_survive_the_loss_of_their_replica(
    strike: Callable[[Cluster, str, str], None],
    deployment: Deployment,
    two: tuple[Replica, Replica],
    api: Api,
) -> None:
    """The other replica takes them over: variables are there, and a running cell is followed to its end."""
    dying, other = two
    busy, idle = (soon(lambda: opened(dying.api)) for _ in range(2))
    idle.run("kept = 'idle'")
    busy.run("x = 41")
    seconds = LEASE_SEC + 3
    cell_id = busy.detach(
        f"import time\nfor i in range({seconds}): print(i, flush=True); time.sleep(1)\nx += 1"
    )
    time.sleep(1)
    strike(deployment.cluster, deployment.namespace, dying.name)
    there = through(other.api, busy)
    assert soon(lambda: there.printed("print(x)")) == "42"
    cell = there.finished(cell_id)
    assert (cell["state"], cell["result"]["stdout"].split()) == ("done", [str(i) for i in range(seconds)])
    assert soon(lambda: through(other.api, idle).printed("print(kept)")) == "idle"
    deployment.settle()
    for session in (busy, idle):
        assert soon(partial(through(api, session).printed, "print(1)")) == "1"
        end(api, session)


# --- a rolling update -------------------------------------------------------------------------------

RETRYABLE = frozenset({"session_moving", "replica_lost", "stopping", "no_capacity"})


@dataclass
class Caller:
    """Counts in a session, or with one-shot executions, again and again, and records the results."""

    session: Session | None
    api: Api
    count: int = 0
    """Number of calls that succeeded."""
    unsure: int = 0
    """Number of calls whose code may have run without an answer."""
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def call_until(self, over: threading.Event) -> None:
        """Repeat the call until `over` is set."""
        while not over.is_set():
            try:
                self._call()
            except Exception as error:
                self.failures.append(repr(error))
            time.sleep(0.2)

    def _call(self) -> None:
        if self.session is None:
            response = self.api.execute("print(6 * 7)")
        else:
            response = self.session.execute("n += 1; print(n)")
        if response.status_code == 200:
            self.count += 1
            if self.session is None:
                assert response.json()["stdout"] == "42\n", response.text
            else:
                n = int(response.json()["stdout"])
                assert self.count <= n <= self.count + self.unsure, (n, self.count, self.unsure)
        else:
            refusal = problem(response)
            assert response.status_code == 503 and refusal["code"] in RETRYABLE, refusal
            self.refusals[refusal["code"]] += 1
            self.unsure += refusal["code"] in ("replica_lost", "stopping")


@contextmanager
def calling(callers: list[Caller]) -> Iterator[None]:
    """Let the callers call until the block ends."""
    over = threading.Event()
    with ThreadPoolExecutor(len(callers)) as threads:
        for caller in callers:
            threads.submit(caller.call_until, over)
        try:
            yield
        finally:
            over.set()


def test_rolling_update_loses_no_session_and_no_call(
    deployment: Deployment,
    two: tuple[Replica, Replica],
    api: Api,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """Callers call all the time. No variable is lost, and calls fail only with a clear 503."""
    sessions: list[Session] = [soon(partial(opened, replica.api)) for replica in two for _ in range(2)]
    callers = [Caller(through(api, session), api) for session in sessions] + [Caller(None, api)]
    for session in sessions:
        session.run("n = 0")
    before = {pod["metadata"]["name"] for pod in deployment.pods()}
    with calling(callers):
        time.sleep(1)
        deployment.apply(podAnnotations={"rolled": uuid.uuid4().hex})
        deployment.settle()
        time.sleep(1)
    assert not before & {pod["metadata"]["name"] for pod in deployment.pods()}
    calls, refused = (
        sum(caller.count for caller in callers),
        sum((c.refusals for c in callers), Counter[str]()),
    )
    record_testsuite_property("rolled", f"{calls} calls went well, refused: {dict(refused)}")
    assert [failure for caller in callers for failure in caller.failures] == []
    assert calls > 50 and refused.total() < calls / 4
    for session in sessions:
        end(api, session)


# --- one replica ------------------------------------------------------------------------------------


def test_a_single_replica_comes_back_to_its_sessions(alone: Future[None]) -> None:
    """After an update it finds registry and files on its volume, and kernels in the cluster."""
    alone.result(120)


@contextmanager
def volume(cluster: Cluster, folder: Path) -> Iterator[str]:
    """Offer a folder of this machine as a volume, and return the name of its storage class."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    folder.chmod(0o777)
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(folder)},
        "storageClassName": name,
        "persistentVolumeReclaimPolicy": "Retain",
    }
    cluster.call("POST", "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    try:
        yield name
    finally:
        cluster.call("DELETE", f"/api/v1/persistentvolumes/{name}")


def _restarted(cluster: Cluster, chart: Chart, folder: Path) -> None:
    with cluster.namespace() as namespace, volume(cluster, folder) as storage:
        deployment = Deployment(
            cluster,
            namespace,
            chart,
            SERVICE_IMAGE,
            persistence={"storageClassName": storage},
            env=SETTINGS,
            drainSeconds=0,
        )
        deployment.settle()
        with asked(deployment) as before:
            session = opened(before.api)
            session.run("x = 41")
            uploaded = before.api.http.post("/v1/files", files={"file": ("kept.txt", b"kept")})
            assert uploaded.status_code == 201, uploaded.text
        deployment.apply(podAnnotations={"restarted": "1"})
        deployment.settle()
        with asked(deployment) as after:
            assert after.name != before.name
            assert through(after.api, session).printed("print(x + 1)") == "42"
            assert after.api.http.get(f"/v1/files/{uploaded.json()['file_id']}").content == b"kept"
        deployment.delete()
        cluster.wait_until(lambda: not deployment.pods() + deployment.kernels())


@contextmanager
def asked(deployment: Deployment) -> Iterator[Replica]:
    """Wait for the only replica, and return it."""
    (only,) = deployment.replicas()
    try:
        yield only
    finally:
        only.api.close()


# --- what is refused --------------------------------------------------------------------------------


UNREADY_SEC = 16.0
"""Longer than the cluster needs to remove a replica that fails its probe from the service's addresses."""


def refused_until_full(api: Api) -> tuple[list[Session], httpx.Response]:
    """Open sessions until one is refused. Return the sessions and the refusal."""
    sessions: list[Session] = []
    while True:
        response = api.http.post("/v1/sessions", json={})
        if response.status_code != 201:
            return sessions, response
        sessions.append(Session(cast(Service, None), response.json(), api))
        assert len(sessions) < 10, "nothing was refused"


def serves_its_sessions_and_refuses_others(
    deployment: Deployment, api: Api, mine: list[Session], sentence: str, seconds: float
) -> list[Session]:
    """Check that open sessions are served and new ones refused during a problem. Return all sessions."""
    sessions, refusal = refused_until_full(api)
    assert refusal.status_code == 503 and int(refusal.headers["retry-after"]) > 0
    assert sentence in problem(refusal)["detail"], refusal.text
    sessions += [through(api, session) for session in mine]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for session in sessions:
            assert session.printed("print(6 * 7)") == "42"
        time.sleep(1)
    assert len(deployment.addresses()) == 2
    return sessions


def test_used_up_quota_refuses_new_sessions_only(
    deployment: Deployment, two: tuple[Replica, Replica], api: Api
) -> None:
    """A refused caller gets the reason and Retry-After. Open sessions go on."""
    place = f"/api/v1/namespaces/{deployment.namespace}/resourcequotas"
    mine = [soon(partial(opened, replica.api)) for replica in two]
    here = len(deployment.pods()) + len(deployment.kernels())
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(here)}}}
    deployment.cluster.call("POST", place, quota)
    try:
        sessions = serves_its_sessions_and_refuses_others(
            deployment, api, mine, "quota is used up", UNREADY_SEC
        )
    finally:
        deployment.cluster.call("DELETE", f"{place}/few")
    for session in sessions:
        end(api, session)
    assert soon(lambda: two[0].api.run("print(1)"))["stdout"] == "1\n"


def test_missing_role_refuses_new_sessions_only(
    deployment: Deployment, two: tuple[Replica, Replica], api: Api
) -> None:
    """The refusal is one clear sentence, and open sessions go on. The service recovers with the rights."""
    place = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{deployment.namespace}/rolebindings"
    mine = [soon(partial(opened, replica.api)) for replica in two]
    binding = deployment.cluster.call("GET", f"{place}/{NAME}")
    deployment.cluster.call("DELETE", f"{place}/{NAME}")
    try:
        sessions = serves_its_sessions_and_refuses_others(
            deployment, api, mine, "this service's account lacks a right in the cluster's namespace", 2
        )
    finally:
        binding["metadata"] = {"name": NAME}
        deployment.cluster.call("POST", place, binding)
    for session in sessions:
        end(api, session)
    for replica in two:
        assert soon(partial(replica.api.run, "print(1)"), 60)["stdout"] == "1\n"


# --- the end ----------------------------------------------------------------------------------------


def test_kernels_end_with_the_deployment(deployment: Deployment, two: tuple[Replica, Replica]) -> None:
    """No pod is left, neither those of the pool nor that of an open session."""
    session: Session = soon(lambda: opened(two[0].api))
    soon(lambda: session.run("x = 1"))
    deployment.delete()
    deployment.cluster.wait_until(lambda: not (deployment.pods() or deployment.kernels()))
    deployment.cluster.wait_until(lambda: deployment.running_containers() == [])
