"""A cluster of ours: manifests are built, compared with what is there, and applied where they differ."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from visualindex.credentials import Credentials
from visualindex.planning.observations import Member, Serving
from visualindex.planning.plan import EndCluster, Serve, StopServing
from visualindex_operator import children, names, telemetry
from visualindex_operator.choosing import chosen
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.drift import lacks
from visualindex_operator.homes import ROTATED, HomeAction, Seen, Standing
from visualindex_operator.kube import Kube, KubeError
from visualindex_operator.kuberay_standing import KubeRayStanding
from visualindex_operator.live import Live, Object
from visualindex_operator.ownership import set_by_others
from visualindex_operator.probes import Probes
from visualindex_operator.rayservice import ray_service, versioned
from visualindex_operator.settings import Settings
from visualindex_operator.worker_counts import ensure_worker_counts

_EXACT = ("NetworkPolicy", "PodDisruptionBudget")
_VERSION_KEPT = timedelta(minutes=5)
_DOTS = 2  # INDEX.VERSION.KIND
_KUBELET_SYNC = timedelta(seconds=75)  # its period of 60 s and the time its cache is behind


class KubeRayHome:
    """`Home` on KubeRay."""

    def __init__(self, kube: Kube, probes: Probes, checks: DependencyChecks, settings: Settings) -> None:
        self._kube, self._checks, self._settings = kube, checks, settings
        self._standing = KubeRayStanding(kube, probes, checks)

    async def look(self, namespace: str, cluster: str, members: Sequence[Member], live: Live) -> Standing:
        """See `Home`."""
        return await self._standing.look(namespace, cluster, members, live)

    async def carry_out(
        self,
        namespace: str,
        cluster: str,
        action: HomeAction,
        bodies: Mapping[str, Object],
        seen: Seen,
        live: Live,
    ) -> list[str]:
        """See `Home`."""
        match action:
            case Serve():
                return await self._serve(namespace, cluster, action, bodies, seen, live)
            case StopServing() | EndCluster():
                return await self._end(namespace, cluster, live)

    async def _serve(
        self,
        namespace: str,
        cluster: str,
        action: Serve,
        bodies: Mapping[str, Object],
        seen: Seen,
        live: Live,
    ) -> list[str]:
        owners = [bodies[one.name] for one in action.served]
        found = {one.name: chosen(one, seen) for one in action.served}
        wanted = {name: one for name, one in found.items() if one is not None}
        if len(wanted) < len(found):
            return []  # the secrets of an index are nowhere: what runs has them still, and is left as it is
        in_use = {name: one for name, one in seen.standing.kept.items() if name in wanted}
        calm = all(_standing(one.name, seen).settled for one in action.served)
        written = await self._ensure_credentials(namespace, cluster, owners, [wanted, in_use], prune=calm)
        replaced = sorted(name for name, one in wanted.items() if in_use.get(name, one) != one)
        mounted = not replaced or await self._mounted(namespace, cluster)
        given = {name: one if mounted else in_use.get(name, one) for name, one in wanted.items()}
        policy = children.network_policy(namespace, cluster, owners)
        written += await self._ensure(
            policy, live.child("NetworkPolicy", namespace, policy["metadata"]["name"])
        )
        written += await self._ensure_budgets(namespace, cluster, action, owners, live)
        service = ray_service(namespace, cluster, action, owners, given, self._settings)
        if replaced and mounted:
            written.append(f"{ROTATED} {', '.join(replaced)}")
        present = live.ray_service(namespace, cluster)
        applied = await self._ensure_ray_service(service, present)
        if present is not None and not applied and not _ending(present):
            applied = await ensure_worker_counts(self._kube, present)
        return [*written, *applied]

    async def _ensure_ray_service(self, manifest: dict[str, Any], present: Object | None) -> list[str]:
        try:
            written = await self._ensure(manifest, present)
        except KubeError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._standing.kuberay_is_missing = True
            return []
        self._standing.kuberay_is_missing = False
        return written

    async def _ensure_credentials(
        self,
        namespace: str,
        cluster: str,
        owners: Sequence[Object],
        versions: Sequence[Mapping[str, Credentials]],
        *,
        prune: bool,
    ) -> list[str]:
        """The Secret that pods mount, with the credentials in use beside the new ones until nothing uses them.

        What is older than those stays until the cluster has settled: another one that it is to take over from may use it.
        """
        entries = {
            key: base64.b64encode(value.encode()).decode()
            for version in versions
            for index, one in version.items()
            for key, value in one.entries(versioned(index, one)).items()
        }
        name = names.credentials_secret(cluster)
        present = await self._checks.whole_secret(namespace, name, own=True) or {}
        added_at = _added_at(present)
        if not (prune and _longer_ago(added_at, _VERSION_KEPT)):
            entries = {**_versions(present.get("data") or {}, versions[0]), **entries}
        if not entries.keys() <= (present.get("data") or {}).keys():
            added_at = datetime.now(UTC).isoformat()
        manifest = children.credentials(namespace, cluster, owners, entries, added_at)
        written = await self._ensure(manifest, present or None)
        if written:
            self._checks.forget_secret(namespace, name)
        return written

    async def _mounted(self, namespace: str, cluster: str) -> bool:
        """Whether the kubelets have had the time to bring what was last added to the Secret to the running pods.

        Serve stops a replica before it starts the successor: one that had to wait for its files would be missed.
        """
        found = await self._checks.whole_secret(namespace, names.credentials_secret(cluster), own=True)
        return _longer_ago(_added_at(found or {}), _KUBELET_SYNC)

    async def _ensure_budgets(
        self, namespace: str, cluster: str, action: Serve, owners: Sequence[Object], live: Live
    ) -> list[str]:
        wanted = {
            manifest["metadata"]["name"]: manifest
            for group in action.shape.groups
            for manifest in [
                children.disruption_budget(namespace, cluster, owners, group.name, group.replicas)
            ]
        }
        written: list[str] = []
        for name, manifest in wanted.items():
            written += await self._ensure(manifest, live.child("PodDisruptionBudget", namespace, name))
        for present in live.children("PodDisruptionBudget", namespace, cluster):
            if present["metadata"]["name"] not in wanted:
                written += await self._delete("PodDisruptionBudget", namespace, present["metadata"]["name"])
        return written

    async def _end(self, namespace: str, cluster: str, live: Live) -> list[str]:
        written: list[str] = []
        if (service := live.ray_service(namespace, cluster)) and not _ending(service):
            written += await self._delete("RayService", namespace, cluster)
        for kind in ("NetworkPolicy", "PodDisruptionBudget"):
            for present in live.children(kind, namespace, cluster):
                written += await self._delete(kind, namespace, present["metadata"]["name"])
        return written

    async def _ensure(self, manifest: dict[str, Any], present: Object | None) -> list[str]:
        if present is None:
            await self._require_own(manifest)
        elif _ending(present) or not _differs(present, manifest):
            return []
        return await self._apply(manifest)

    async def _require_own(self, manifest: dict[str, Any]) -> None:
        """Raise KubeError where an object of that name is somebody else's: it would be deleted with the index."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        found = await self._kube.get(kind, metadata["namespace"], metadata["name"])
        if found is not None and not _is_own(found, manifest):
            message = f"{kind} {metadata['name']} is not the operator's: rename or delete it, or name another cluster"
            raise KubeError(HTTPStatus.CONFLICT, message)

    async def _apply(self, manifest: dict[str, Any]) -> list[str]:
        kind, metadata = manifest["kind"], manifest["metadata"]
        applied = await self._kube.apply(manifest)
        telemetry.WRITES.labels("apply", kind).inc()
        if "spec" in manifest and _differs(applied, manifest):  # what others added, apply leaves in place
            whole = [{"op": "replace", "path": "/spec", "value": manifest["spec"]}]
            await self._kube.patch(kind, metadata["namespace"], metadata["name"], whole)
            telemetry.WRITES.labels("patch", kind).inc()
        return [f"applied {kind} {metadata['name']}"]

    async def _delete(self, kind: str, namespace: str, name: str) -> list[str]:
        await self._kube.delete(kind, namespace, name)
        telemetry.WRITES.labels("delete", kind).inc()
        return [f"deleted {kind} {name}"]


def _standing(index: str, seen: Seen) -> Serving:
    return seen.standing.serving.get(index, Serving())


def _versions(data: Mapping[str, str], indexes: Iterable[str]) -> dict[str, str]:
    """The entries that hold versions of the credentials of these indexes."""
    starts = tuple(f"{index}." for index in indexes)
    return {
        name: value for name, value in data.items() if name.startswith(starts) and name.count(".") == _DOTS
    }


def _added_at(secret: Object) -> str | None:
    found: str | None = (secret.get("metadata", {}).get("annotations") or {}).get(names.ADDED_AT)
    return found


def _longer_ago(text: str | None, age: timedelta) -> bool:
    """Whether a time is longer ago than `age`; so is one that cannot be read, and none at all."""
    try:
        return text is None or datetime.now(UTC) - datetime.fromisoformat(text) > age
    except (ValueError, TypeError):
        return True


def _differs(present: Object, manifest: Mapping[str, Any]) -> bool:
    """Whether an object is not as wanted. A policy with more in it than was wanted is another policy."""
    if lacks(present, manifest) or ("spec" in manifest and set_by_others(present, manifest)):
        return True
    return manifest["kind"] in _EXACT and lacks(manifest["spec"], present["spec"])


def _is_own(found: Object, manifest: Mapping[str, Any]) -> bool:
    labels = found["metadata"].get("labels") or {}
    owners, wanted = (
        {owner.get("uid") for owner in one["metadata"].get("ownerReferences") or []}
        for one in (found, manifest)
    )
    return labels.get(names.MANAGED_BY) == names.FIELD_MANAGER or bool(owners & wanted)


def _ending(present: Object) -> bool:
    return "deletionTimestamp" in present["metadata"]
