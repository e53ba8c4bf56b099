"""`Live` that was read from the API server a moment ago: what the watches of the real operator show in the end."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.operator_api.namespace import CHILDREN, Namespace, Object

from visualindex_operator import names
from visualindex_operator.members import GroupKey, group_of

KINDS = ("VisualIndex", *CHILDREN, "Service")


@dataclass(frozen=True)
class Snapshot:
    """Every object of a namespace, by kind."""

    objects: dict[str, list[Object]]

    @classmethod
    async def of(cls, namespace: Namespace) -> "Snapshot":
        found = await namespace.every(*KINDS)
        return cls(dict(zip(KINDS, found, strict=True)))

    def groups(self) -> list[GroupKey]:
        return sorted({group_of(body) for body in self.objects["VisualIndex"]})

    def members(self, namespace: str, mode: str, cluster: str) -> list[Object]:
        return [body for body in self.objects["VisualIndex"] if group_of(body) == (namespace, mode, cluster)]

    def ray_service(self, namespace: str, name: str) -> Object | None:
        return self.child("RayService", namespace, name)

    def job(self, namespace: str, name: str) -> Object | None:
        return self.child("Job", namespace, name)

    def ray_jobs_of(self, namespace: str, index: str) -> list[Object]:
        return [
            one for one in self._ours("RayJob") if one["metadata"]["labels"].get(names.INDEX_LABEL) == index
        ]

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        return [job for job in self._ours("Job") if job["metadata"]["labels"].get(names.INDEX_LABEL) == index]

    def child(self, kind: str, namespace: str, name: str) -> Object | None:
        return next((one for one in self._ours(kind) if one["metadata"]["name"] == name), None)

    def children(self, kind: str, namespace: str, cluster: str) -> Iterable[Object]:
        return [one for one in self._ours(kind) if one["metadata"]["labels"][names.CLUSTER_LABEL] == cluster]

    def _ours(self, kind: str) -> list[Object]:
        """The watches select by label: what lost its label is not shown."""
        return [
            one for one in self.objects[kind] if names.CLUSTER_LABEL in (one["metadata"].get("labels") or {})
        ]
