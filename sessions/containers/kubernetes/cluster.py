"""The API of a Kubernetes cluster, for one namespace. The one module that imports `kubernetes_asyncio`.

Objects are plain JSON both ways: the library's model of a pod costs more time than everything else that is
done with the pod.
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
"""The API server ends a watch after this long, so that a dead connection is noticed."""
_SILENCE_SEC: Final = 75.0
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_USUAL_KUBECONFIG: Final = Path("~/.kube/config")
_UNAUTHORISED: Final = 401
_SERVER_ERRORS: Final = 500
_TOO_MANY_REQUESTS: Final = 429


class Refused(Exception):
    """The API server refused a call.

    `status` is the HTTP status, `reason` Kubernetes' name of the reason, `message` a sentence.
    """

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
    """Calls to the API server. Every method may raise `EngineUnavailable` or `Refused`."""

    def __init__(self, api: client.ApiClient, namespace: str, *, inside: bool) -> None:
        self.namespace = namespace
        self.address = str(api.configuration.host)
        self._inside = inside
        self._api = api
        self._core = client.CoreV1Api(api)
        self._reviews = client.AuthorizationV1Api(api)

    @classmethod
    async def connect(cls, kubeconfig: Path | None, namespace: str | None) -> "Cluster":
        """Connect by the given kubeconfig, or as the pod of this process, or by the user's kubeconfig.

        Args:
            kubeconfig: path of the file, or None.
            namespace: where the pods are; None: the namespace of the pod or of the kubeconfig.

        Raises:
            ClusterUnusable: there is none of these, or it is invalid.
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
                f"no cluster is configured ({error}): run this service in a pod with a service account, "
                "or set KUBECONFIG"
            ) from error
        return cls(client.ApiClient(configuration), namespace or "default", inside=inside)

    def identity(self) -> str:
        """Return an id of this namespace of this cluster, the same for every service that uses it.

        Clusters have no names, and from inside they all have the same address. But each has a certificate
        authority of its own.
        """
        authority = self._api.configuration.ssl_ca_cert
        known = Path(authority).read_bytes() if authority else self.address.encode()
        return f"{self.namespace} of {hashlib.sha256(known).hexdigest()[:32]}"

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _call(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> JsonObject:
        timeout = aiohttp.ClientTimeout(total=_CALL_SEC, sock_connect=_CONNECT_SEC)
        with _cluster_errors():
            response = await function(*args, _preload_content=False, _request_timeout=timeout, **kwargs)
            text = await response.read()
            return _answer(response.status, text)

    async def ping(self) -> None:
        """Return if the API server answers."""
        await self.version()

    async def version(self) -> str:
        """Return the version of the API server, such as `v1.31.2`."""
        found = await self._call(client.VersionApi(self._api).get_code)
        return str(found["gitVersion"])

    async def namespace_labels(self) -> dict[str, str]:
        """Return the labels of the namespace."""
        found = await self._call(self._core.read_namespace, self.namespace)
        labels: dict[str, str] = found["metadata"].get("labels") or {}
        return labels

    async def quotas(self) -> list[JsonObject]:
        """Return the ResourceQuotas of the namespace."""
        found = await self._call(self._core.list_namespaced_resource_quota, self.namespace)
        items: list[JsonObject] = found["items"]
        return items

    async def runtime_class(self, name: str) -> JsonObject:
        """Return a RuntimeClass."""
        return await self._call(client.NodeV1Api(self._api).read_runtime_class, name)

    async def nodes(self, labels: Mapping[str, str]) -> list[JsonObject]:
        """Return the nodes with these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = await self._call(self._core.list_node, label_selector=selector)
        items: list[JsonObject] = found["items"]
        return items

    async def create_pod(self, pod: JsonObject) -> JsonObject:
        """Create a pod, and return it with its status."""
        return await self._call(self._core.create_namespaced_pod, self.namespace, pod)

    async def pod(self, name: str) -> JsonObject:
        """Return a pod with its present status."""
        return await self._call(self._core.read_namespaced_pod, name, self.namespace)

    async def delete_pod(self, name: str, grace_sec: int) -> None:
        """Ask for a pod's deletion, which completes later."""
        options = {"gracePeriodSeconds": grace_sec, "propagationPolicy": "Background"}
        await self._call(self._core.delete_namespaced_pod, name, self.namespace, body=options)

    async def pods(self, selector: str) -> JsonObject:
        """Return a PodList of the pods with these labels."""
        return await self._call(self._core.list_namespaced_pod, self.namespace, label_selector=selector)

    async def events(self, name: str) -> list[JsonObject]:
        """Return the events of a pod."""
        selector = f"involvedObject.name={name}"
        found = await self._call(self._core.list_namespaced_event, self.namespace, field_selector=selector)
        items: list[JsonObject] = found["items"]
        return items

    async def watch_pods(self, selector: str, version: str) -> AsyncIterator[tuple[str, JsonObject]]:
        """Yield changes of pods after a resource version, for about a minute.

        A change is `ADDED`, `MODIFIED` or `DELETED`, and the pod.

        Raises:
            Refused: with status 410, the version is too old: list the pods again.
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
        """Whether this account has a right in the namespace."""
        wanted = {"namespace": self.namespace, "verb": verb, "resource": resource}
        review = {"spec": {"resourceAttributes": wanted}}
        found = await self._call(self._reviews.create_self_subject_access_review, review)
        return bool(found["status"]["allowed"])

    async def owner(self) -> JsonObject | None:
        """Return an owner reference to the controller of this service's own pod; None outside a pod.

        So sessions outlive one pod of a Deployment, and end with the Deployment. Owner and owned objects
        have to be in the same namespace.
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
    """Return the object in a response.

    Raises:
        EngineUnavailable: a server error, or too many requests: another try may help.
        ClusterUnusable: the cluster does not accept the account's credentials.
        Refused: any other status that is not a success.
    """
    if status < 300:
        found: JsonObject = json.loads(text)
        return found
    try:
        found = json.loads(text)
        reason, message = str(found.get("reason", "")), str(found.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", text[:500].decode("utf-8", "replace")
    if status >= _SERVER_ERRORS or status == _TOO_MANY_REQUESTS:
        raise EngineUnavailable(f"the cluster's API: {status} {message}")
    if status == _UNAUTHORISED:
        raise ClusterUnusable(f"the cluster does not know this service's account ({message}); see KUBECONFIG")
    raise Refused(status, reason, message)
