"""The way to the API server: a few verbs on manifests, with errors told apart by what may be done about them."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import client, config

from visualindex_operator import names
from visualindex_operator.connections import AT_ONCE

Manifest = dict[str, Any]
_TIMEOUT_S = 10
_PLURALS = {
    "VisualIndex": names.PLURAL,
    "RayService": "rayservices",
    "RayCluster": "rayclusters",
    "RayJob": "rayjobs",
    "Secret": "secrets",
    "Service": "services",
    "Job": "jobs",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
}
_VERSIONS = {
    "VisualIndex": f"{names.GROUP}/{names.VERSION}",
    "RayService": "ray.io/v1",
    "RayCluster": "ray.io/v1",
    "RayJob": "ray.io/v1",
    "Secret": "v1",
    "Service": "v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
}


class KubeError(Exception):
    """The API server did not do what it was asked. `status` is its HTTP status, 0 where it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Kube(Protocol):
    """What the operator asks of the API server. Every call may raise KubeError."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object; None when it is not there."""

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply: afterwards the object has what the manifest states."""

    async def patch(self, kind: str, namespace: str, name: str, operations: list[Manifest]) -> None:
        """Carries out a JSON patch, all of it or nothing."""

    async def create(self, manifest: Manifest) -> bool:
        """Creates the object; False when one of that name is there already."""

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Has the object and what it owns deleted; nothing happens when it is not there."""

    async def write_status(self, namespace: str, name: str, status: Manifest) -> None:
        """Replaces the status of a VisualIndex; nothing happens when it is gone."""


class ApiServer:
    """`Kube` over HTTP."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> "ApiServer":
        """From inside a cluster with the pod's service account, else with the current kubeconfig."""
        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config()
        configuration = client.Configuration.get_default_copy()
        configuration.connection_pool_maxsize = AT_ONCE
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """See `Kube`."""
        try:
            return await self._call("GET", _path(kind, namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def apply(self, manifest: Manifest) -> Manifest:
        """See `Kube`."""
        metadata = manifest["metadata"]
        return await self._call(
            "PATCH",
            _path(manifest["kind"], metadata["namespace"], metadata["name"]),
            body=manifest,
            content="application/apply-patch+yaml",
            query={"fieldManager": names.FIELD_MANAGER, "force": "true"},
        )

    async def patch(self, kind: str, namespace: str, name: str, operations: list[Manifest]) -> None:
        """See `Kube`."""
        path = _path(kind, namespace, name)
        query = {"fieldManager": names.FIELD_MANAGER}
        await self._call("PATCH", path, body=operations, content="application/json-patch+json", query=query)

    async def create(self, manifest: Manifest) -> bool:
        """See `Kube`."""
        try:
            path = _path(manifest["kind"], manifest["metadata"]["namespace"])
            await self._call("POST", path, body=manifest, query={"fieldManager": names.FIELD_MANAGER})
        except KubeError as error:
            if error.status == 409:
                return False
            raise
        return True

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """See `Kube`."""
        try:
            body = {"propagationPolicy": "Background"}
            await self._call("DELETE", _path(kind, namespace, name), body=body)
        except KubeError as error:
            if error.status != 404:
                raise

    async def write_status(self, namespace: str, name: str, status: Manifest) -> None:
        """See `Kube`."""
        path = f"{_path('VisualIndex', namespace, name)}/status"
        try:
            patch = [{"op": "add", "path": "/status", "value": status}]
            await self._call("PATCH", path, body=patch, content="application/json-patch+json")
        except KubeError as error:
            if error.status != 404:
                raise

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Manifest:
        headers = {"Accept": "application/json", "Content-Type": content}
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=_TIMEOUT_S)
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"the API server does not answer: {error or type(error).__name__}") from error
        except client.ApiException as error:
            raise KubeError(int(error.status or 0), _reason(error.body) or str(error.reason)) from error
        if response.status >= 400:
            raise KubeError(response.status, _reason(data) or str(response.reason))
        found: Manifest = json.loads(data)
        return found


def _path(kind: str, namespace: str, name: str = "") -> str:
    version = _VERSIONS[kind]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return f"{root}/namespaces/{namespace}/{_PLURALS[kind]}" + (f"/{name}" if name else "")


def _reason(body: Any) -> str:
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return ""
