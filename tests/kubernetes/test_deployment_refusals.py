"""Tests of a deployment whose namespace is full, or whose account lacks its role."""

import time
from functools import partial
from typing import cast

import httpx
import pytest

from tests.kubernetes.deployed import end, opened, soon, through
from tests.support.api import Api, problem
from tests.support.chart import NAME
from tests.support.deployment import Deployment, Replica
from tests.support.process import Service
from tests.support.session import Session

pytestmark = pytest.mark.timeout(300)

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
    deployment: Deployment, api: Api, opened_before: list[Session], sentence: str, seconds: float
) -> list[Session]:
    """Check that open sessions are served and new ones refused during a problem. Return all sessions."""
    sessions, refusal = refused_until_full(api)
    assert refusal.status_code == 503 and int(refusal.headers["retry-after"]) > 0
    assert sentence in problem(refusal)["detail"], refusal.text
    sessions += [through(api, session) for session in opened_before]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for session in sessions:
            assert session.printed("print(6 * 7)") == "42"
        time.sleep(1)
    assert len(deployment.addresses()) == 2
    return sessions


def test_used_up_quota_refuses_new_sessions_only(
    deployment: Deployment, replicas: tuple[Replica, Replica], api: Api
) -> None:
    """A refused caller gets the reason and Retry-After. Open sessions go on."""
    path = f"/api/v1/namespaces/{deployment.kernels_namespace}/resourcequotas"
    opened_before = [soon(partial(opened, replica.api)) for replica in replicas]
    pod_count = len(deployment.kernels())
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(pod_count)}}}
    deployment.cluster.call("POST", path, quota)
    try:
        sessions = serves_its_sessions_and_refuses_others(
            deployment, api, opened_before, "quota is used up", UNREADY_SEC
        )
    finally:
        deployment.cluster.call("DELETE", f"{path}/few")
    for session in sessions:
        end(api, session)
    assert soon(lambda: replicas[0].api.run("print(1)"))["stdout"] == "1\n"


def test_missing_role_refuses_new_sessions_only(
    deployment: Deployment, replicas: tuple[Replica, Replica], api: Api
) -> None:
    """The refusal is one clear sentence, and open sessions go on. The service recovers with the rights."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{deployment.kernels_namespace}/rolebindings"
    opened_before = [soon(partial(opened, replica.api)) for replica in replicas]
    binding = deployment.cluster.call("GET", f"{path}/{NAME}")
    deployment.cluster.call("DELETE", f"{path}/{NAME}")
    try:
        sessions = serves_its_sessions_and_refuses_others(
            deployment,
            api,
            opened_before,
            "this service's account lacks a right in the cluster's namespace",
            2,
        )
    finally:
        binding["metadata"] = {"name": NAME}
        deployment.cluster.call("POST", path, binding)
    for session in sessions:
        end(api, session)
    for replica in replicas:
        assert soon(partial(replica.api.run, "print(1)"), 60)["stdout"] == "1\n"
