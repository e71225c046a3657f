"""The API of a Kubernetes cluster, for one namespace. The one module that imports `kubernetes_asyncio`.

Objects are plain JSON both ways: making the client's models of a pod costs more than all else that is
done with it.
"""

import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from kubernetes_asyncio import client, config

from sessions.containers.errors import ClusterUnusable, EngineUnavailable
from sessions.models import JsonObject

_CALL_SEC: Final = 30.0
_CONNECT_SEC: Final = 5.0
_WATCH_SEC: Final = 60
"""The API server ends a watch after this long, so that one that has gone dead is noticed."""
_SILENCE_SEC: Final = 75.0
_LINE_BYTES: Final = 1 << 21
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_USUAL_KUBECONFIG: Final = Path("~/.kube/config")
_UNAUTHORISED: Final = 401
_SERVER_ERRORS: Final = 500
_TOO_MANY_REQUESTS: Final = 429


class Refused(Exception):
    """The API server said no: an HTTP status, Kubernetes' own word for the reason, and a sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    try:
        yield
    except client.ApiException as error:
        raise EngineUnavailable(f"the cluster's API: {error.reason}") from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise EngineUnavailable(f"the cluster's API: {error or type(error).__name__}") from error


class Cluster:
    """Calls to the API server. Each may raise `EngineUnavailable`, or `Refused`."""

    def __init__(self, api: client.ApiClient, namespace: str, *, inside: bool) -> None:
        self.namespace = namespace
        self.address = str(api.configuration.host)
        self._inside = inside
        self._api = api
        self._core = client.CoreV1Api(api)
        self._reviews = client.AuthorizationV1Api(api)

    @classmethod
    async def connect(cls, kubeconfig: Path | None, namespace: str | None) -> "Cluster":
        """By a kubeconfig, or as the pod that this process runs in, or by the user's own kubeconfig.

        Raises:
            ClusterUnusable: there is none of these, or it makes no sense.
        """
        configuration = client.Configuration()
        inside = kubeconfig is None and _OWN_NAMESPACE.exists()
        try:
            if inside:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                namespace = namespace or _OWN_NAMESPACE.read_text().strip()
            else:
                file = str((kubeconfig or _USUAL_KUBECONFIG).expanduser())
                await config.load_kube_config(file, client_configuration=configuration)
                namespace = namespace or _namespace_in(file)
        except (config.ConfigException, OSError) as error:
            raise ClusterUnusable(
                f"there is no way to a cluster ({error}): run this service in a pod with a service account, "
                "or set KUBECONFIG"
            ) from error
        return cls(client.ApiClient(configuration), namespace or "default", inside=inside)

    def identity(self) -> str:
        """What tells this namespace of this cluster from others, wherever it is looked at from.

        Clusters have no names. Each has a certificate authority of its own, and inside one all clusters
        have the same address.
        """
        authority = self._api.configuration.ssl_ca_cert
        known = Path(authority).read_bytes() if authority else self.address.encode()
        return f"{self.namespace} of {hashlib.sha256(known).hexdigest()[:32]}"

    async def close(self) -> None:
        """Give back connections."""
        await self._api.close()

    async def _call(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> JsonObject:
        timeout = aiohttp.ClientTimeout(total=_CALL_SEC, sock_connect=_CONNECT_SEC)
        with _cluster_errors():
            response = await function(*args, _preload_content=False, _request_timeout=timeout, **kwargs)
            text = await response.read()
            return _answer(response.status, text)

    async def ping(self) -> None:
        """Ask whether it answers."""
        await self.version()

    async def version(self) -> str:
        """Of the API server, such as `v1.31.2`."""
        found = await self._call(client.VersionApi(self._api).get_code)
        return str(found["gitVersion"])

    async def namespace_labels(self) -> dict[str, str]:
        """Those of the pods' namespace."""
        found = await self._call(self._core.read_namespace, self.namespace)
        labels: dict[str, str] = found["metadata"].get("labels") or {}
        return labels

    async def quotas(self) -> list[JsonObject]:
        """The namespace's ResourceQuotas."""
        found = await self._call(self._core.list_namespaced_resource_quota, self.namespace)
        items: list[JsonObject] = found["items"]
        return items

    async def runtime_class(self, name: str) -> JsonObject:
        """A RuntimeClass."""
        return await self._call(client.NodeV1Api(self._api).read_runtime_class, name)

    async def nodes(self, labels: Mapping[str, str]) -> list[JsonObject]:
        """The nodes with those labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = await self._call(self._core.list_node, label_selector=selector)
        items: list[JsonObject] = found["items"]
        return items

    async def create_pod(self, pod: JsonObject) -> JsonObject:
        """Create a pod; as it is then."""
        return await self._call(self._core.create_namespaced_pod, self.namespace, pod)

    async def pod(self, name: str) -> JsonObject:
        """One pod, as it is now."""
        return await self._call(self._core.read_namespaced_pod, name, self.namespace)

    async def delete_pod(self, name: str, grace_sec: int) -> None:
        """Ask for its end, which comes later."""
        options = {"gracePeriodSeconds": grace_sec, "propagationPolicy": "Background"}
        await self._call(self._core.delete_namespaced_pod, name, self.namespace, body=options)

    async def pods(self, selector: str) -> JsonObject:
        """A PodList: those with the labels."""
        return await self._call(self._core.list_namespaced_pod, self.namespace, label_selector=selector)

    async def events(self, name: str) -> list[JsonObject]:
        """What the cluster has noted of a pod."""
        selector = f"involvedObject.name={name}"
        found = await self._call(self._core.list_namespaced_event, self.namespace, field_selector=selector)
        items: list[JsonObject] = found["items"]
        return items

    async def watch_pods(self, selector: str, version: str) -> AsyncIterator[tuple[str, JsonObject]]:
        """What becomes of them after a version: `ADDED`, `MODIFIED` or `DELETED` and the pod, for a while.

        Raises:
            Refused: with status 410, the version is too old: list them anew.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SEC, sock_read=_SILENCE_SEC)
        listing: Any = self._core.list_namespaced_pod
        with _cluster_errors():
            response = await listing(
                self.namespace,
                label_selector=selector,
                resource_version=version,
                watch=True,
                allow_watch_bookmarks=True,
                timeout_seconds=_WATCH_SEC,
                _preload_content=False,
                _request_timeout=timeout,
            )
            async with response:
                if response.status != 200:
                    _answer(response.status, await response.read())
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise Refused(status["code"], status.get("reason", ""), status.get("message", ""))
                    yield event["type"], event["object"]

    async def may(self, verb: str, resource: str) -> bool:
        """Whether this account may do that in the namespace."""
        wanted = {"namespace": self.namespace, "verb": verb, "resource": resource}
        review = {"spec": {"resourceAttributes": wanted}}
        found = await self._call(self._reviews.create_self_subject_access_review, review)
        return bool(found["status"]["allowed"])

    async def owner(self) -> JsonObject | None:
        """An owner reference to what this service's own pod belongs to; None where it runs in none.

        That is the pod's controller, so that sessions outlive one pod of a Deployment, and end with all.
        What is owned has to be in the same namespace.
        """
        if not self._inside or self.namespace != _OWN_NAMESPACE.read_text().strip():
            return None
        try:
            own = await self.pod(socket.gethostname())
        except Refused:
            return None
        for owner in own["metadata"].get("ownerReferences", ()):
            if owner.get("controller"):
                return {name: owner[name] for name in ("apiVersion", "kind", "name", "uid")}
        metadata = own["metadata"]
        return {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}


def _namespace_in(kubeconfig: str) -> str | None:
    active: Any = config.list_kube_config_contexts(kubeconfig)[1]
    found: str | None = active["context"].get("namespace")
    return found


def _answer(status: int, text: bytes) -> JsonObject:
    """The object that came. Raises `Refused`, or `EngineUnavailable` where asking again may help."""
    if status < 300:
        found: JsonObject = json.loads(text)
        return found
    try:
        said = json.loads(text)
        reason, message = str(said.get("reason", "")), str(said.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", text[:500].decode("utf-8", "replace")
    if status >= _SERVER_ERRORS or status == _TOO_MANY_REQUESTS:
        raise EngineUnavailable(f"the cluster's API: {status} {message}")
    if status == _UNAUTHORISED:
        raise ClusterUnusable(f"the cluster does not know this service's account ({message}); see KUBECONFIG")
    raise Refused(status, reason, message)
