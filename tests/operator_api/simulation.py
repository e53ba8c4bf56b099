"""A simulation of the controllers that this API server lacks: KubeRay, the Job controller and garbage collection.

Nothing happens by itself: `step` lets each of them look once, and says whether any of them wrote. What they write has the
form that the real ones were seen to write; no pod runs, no application is deployed.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import yaml
from tests.operator_api.namespace import CHILDREN, GoneError, Namespace, Object
from tests.operator_api.snapshot import Snapshot

from visualindex_operator import names

_LONG_AGO = "2020-01-01T00:00:00+00:00"
_NOW = "2026-11-24T12:00:00Z"
_DONE = {
    "startTime": _NOW,
    "completionTime": _NOW,
    "succeeded": 1,
    "conditions": [
        {"type": kind, "status": "True", "lastProbeTime": _NOW, "lastTransitionTime": _NOW}
        for kind in ("SuccessCriteriaMet", "Complete")
    ],
}


@dataclass
class Controllers:
    """The controllers of one namespace."""

    namespace: Namespace
    addresses: set[str] = field(default_factory=set)
    """Addresses behind which a cluster answers."""
    clusters: dict[str, str] = field(default_factory=dict)
    """RayService → what its Ray cluster was made from."""
    jobs_done: list[str] = field(default_factory=list)

    async def step(self, seen: Mapping[str, list[Object]]) -> bool:
        """Let each controller act on what was seen, by kind; what changed since is left for the next time."""
        uids = {one["metadata"]["uid"] for kind in ("VisualIndex", "RayService") for one in seen[kind]}
        self.addresses.clear()
        self.addresses.update(one["spec"]["clusterIP"] for one in seen["Service"])
        services = {one["metadata"]["name"]: one for one in seen["Service"]}
        wrote = [await self._collect(kind, seen[kind], uids) for kind in (*CHILDREN, "Service")]
        wrote += await asyncio.gather(
            *(self._ray(service, services) for service in seen["RayService"] if _owned(service, uids)),
            *(self._run(job) for job in seen["Job"] if _owned(job, uids)),
            *(self._mount(secret) for secret in seen["Secret"]),
        )
        return any(wrote)

    async def _ray(self, service: Object, services: Mapping[str, Object]) -> bool:
        """KubeRay: a new Ray cluster is pending first, and becomes the active one at the next look."""
        name, wanted = service["metadata"]["name"], _cluster_of(service)
        generation = service["metadata"]["generation"]
        status = service.get("status") or {}
        if self.clusters.get(name) != wanted:
            self.clusters[name] = wanted
            pending = {"rayClusterName": f"{name}-pending"}
            return await self._say(service, {**status, "pendingServiceStatus": pending})
        active = {
            "rayClusterName": f"{name}-active",
            "applicationStatuses": {app: {"status": "RUNNING"} for app in _applications(service)},
        }
        exposed = await self._expose(service, services)
        settled = {"activeServiceStatus": active, "observedGeneration": generation}
        return await self._say(service, {**settled, "pendingServiceStatus": None}) or exposed

    async def _say(self, service: Object, status: Object) -> bool:
        wanted = {key: value for key, value in status.items() if value is not None}
        if (service.get("status") or {}) == wanted:
            return False
        change = {"status": None if not wanted else {**dict.fromkeys(service.get("status") or {}), **status}}
        apps = ((service.get("status") or {}).get("activeServiceStatus") or {}).get("applicationStatuses", {})
        told = (status.get("activeServiceStatus") or {}).get("applicationStatuses", {})
        for gone in apps.keys() - told.keys():
            change["status"]["activeServiceStatus"]["applicationStatuses"][gone] = None
        await self.namespace.merge("RayService", service["metadata"]["name"], change, "/status")
        return True

    async def _expose(self, service: Object, services: Mapping[str, Object]) -> bool:
        name = f"{service['metadata']['name']}-serve-svc"
        if name in services:
            return False
        await self.namespace.create("Service", _service(name, service))
        return True

    async def _run(self, job: Object) -> bool:
        """The Job controller and a pod that succeeds."""
        if (job.get("status") or {}).get("succeeded"):
            return False
        name = job["metadata"]["name"]
        await self.namespace.merge("Job", name, {"status": {"startTime": _NOW}}, "/status")
        await self.namespace.merge("Job", name, {"status": _DONE}, "/status")
        self.jobs_done.append(name)
        return True

    async def _mount(self, secret: Object) -> bool:
        """The kubelets, which take a minute: here it has passed at once."""
        annotations = secret["metadata"].get("annotations") or {}
        if annotations.get(names.ADDED_AT, _LONG_AGO) == _LONG_AGO:
            return False
        change = {"metadata": {"annotations": {names.ADDED_AT: _LONG_AGO}}}
        await self.namespace.merge("Secret", secret["metadata"]["name"], change)
        return True

    async def _collect(self, kind: str, present: Sequence[Object], uids: set[str]) -> bool:
        """Garbage collection: what has no owner left goes."""
        gone = [one for one in present if not _owned(one, uids)]
        for one in gone:
            await self.namespace.delete(kind, one["metadata"]["name"])
            if kind == "RayService":
                self.clusters.pop(one["metadata"]["name"], None)
        return bool(gone)


def _owned(one: Object, uids: set[str]) -> bool:
    owners = one["metadata"].get("ownerReferences")
    return not owners or any(owner["uid"] in uids for owner in owners)


def _cluster_of(service: Object) -> str:
    """What KubeRay makes another cluster for; counts of pods are no reason."""
    config = json.dumps(service["spec"]["rayClusterConfig"], indent=1)
    lines = [line for line in config.splitlines() if "eplicas" not in line]
    return service["metadata"]["uid"] + "\n".join(lines)


def _applications(service: Object) -> list[str]:
    config = yaml.load(service["spec"]["serveConfigV2"], yaml.CSafeLoader)
    return [app["name"] for app in config["applications"]]


def _service(name: str, owner: Object) -> dict[str, Any]:
    reference = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "ownerReferences": [reference]},
        "spec": {"ports": [{"name": "serve", "port": 8000}]},
    }


@asynccontextmanager
async def controllers_running(namespace: Namespace) -> AsyncIterator[Controllers]:
    """The controllers look until the block ends: five times a second, and half of the time where there is much to see."""
    controllers = Controllers(namespace)

    async def work() -> None:
        while True:
            began = time.monotonic()
            with suppress(GoneError):
                await controllers.step((await Snapshot.of(namespace)).objects)
            await asyncio.sleep(max(0.2, time.monotonic() - began))

    task = asyncio.create_task(work())
    try:
        yield controllers
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
