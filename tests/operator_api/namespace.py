"""One namespace of the API server, as a person with kubectl sees and changes it."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kubernetes.aio import client
from tests.kubernetes.api_server import APPLY, MERGE

Object = dict[str, Any]
PATHS = {
    "VisualIndex": "apis/visualindex.dev/v1alpha1/{}/visualindexes",
    "RayService": "apis/ray.io/v1/{}/rayservices",
    "RayJob": "apis/ray.io/v1/{}/rayjobs",
    "Job": "apis/batch/v1/{}/jobs",
    "NetworkPolicy": "apis/networking.k8s.io/v1/{}/networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1/{}/poddisruptionbudgets",
    "Secret": "api/v1/{}/secrets",
    "Service": "api/v1/{}/services",
}
CHILDREN = ("RayService", "RayJob", "Job", "NetworkPolicy", "PodDisruptionBudget", "Secret")


class RefusedError(Exception):
    """The API server refused what the test asked for."""


class GoneError(RefusedError):
    """What was to be changed is not there."""


@dataclass(frozen=True)
class Namespace:
    """What is in one namespace."""

    api: client.ApiClient
    name: str

    async def all(self, kind: str) -> list[Object]:
        """All of one kind. The API server leaves `kind` and `apiVersion` out of items; kopf puts them back, and so here."""
        found = await self.call("GET", self._path(kind))
        return [{"kind": kind, "apiVersion": found["apiVersion"], **item} for item in found["items"]]

    async def every(self, *kinds: str) -> list[list[Object]]:
        """Lists of several kinds, asked for at once."""
        return list(await asyncio.gather(*(self.all(kind) for kind in kinds)))

    async def get(self, kind: str, name: str) -> Object:
        return await self.call("GET", self._path(kind, name))

    async def create(self, kind: str, body: Object) -> Object:
        return await self.call("POST", self._path(kind), body)

    async def merge(self, kind: str, name: str, change: Any, part: str = "") -> Object:
        """A JSON merge patch of an object, or of its status where `part` says so."""
        return await self.call("PATCH", self._path(kind, name) + part, change, MERGE)

    async def apply(self, kind: str, body: Object, manager: str = "kubectl") -> Object:
        """Server-side apply in the name of a person."""
        path = self._path(kind, body["metadata"]["name"])
        return await self.call("PATCH", path, body, APPLY, fieldManager=manager, force="true")

    async def delete(self, kind: str, name: str) -> None:
        """Deletes an object; one that has gone already may."""
        with suppress(GoneError):
            await self.call("DELETE", self._path(kind, name), {"propagationPolicy": "Background"})

    async def make(self) -> "Namespace":
        """Create the namespace itself."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        await self.call("POST", "/api/v1/namespaces", body)
        return self

    def _path(self, kind: str, name: str = "") -> str:
        return f"/{PATHS[kind].format(f'namespaces/{self.name}')}" + (f"/{name}" if name else "")

    async def call(
        self, method: str, path: str, body: Any = None, content: str = "application/json", **query: str
    ) -> Object:
        """One request. Raises RefusedError for any status but 2xx."""
        headers = {"Accept": "application/json", "Content-Type": content}
        request = await self.api.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        response = await self.api.call_api(*request)
        found: Object = json.loads(await response.read())
        if response.status == 404:
            raise GoneError(f"{method} {path}: {found.get('message')}")
        if response.status >= 300:
            raise RefusedError(f"{method} {path}: {response.status} {found.get('message')}")
        return found
