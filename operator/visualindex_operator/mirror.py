"""`Live` on kopf's indices: in memory, filled before the first handler runs, kept by its watches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import kopf

from visualindex_operator import names
from visualindex_operator.live import Object, lean

Index = kopf.Index[Any, Any]
_CLUSTER, _INDEX = names.CLUSTER_LABEL, names.INDEX_LABEL


def keyed(body: Object) -> dict[tuple[str, ...], Object]:
    """A child under its name, its cluster and its index: looking through all children would take ever longer."""
    metadata, kept = body["metadata"], lean(body)
    labels = [
        (label, metadata["labels"][label]) for label in (_CLUSTER, _INDEX) if label in metadata["labels"]
    ]
    return {(metadata["namespace"], *key): kept for key in ((metadata["name"],), *labels)}


@dataclass(frozen=True)
class Mirror:
    """The indices that the handlers were given."""

    groups: Index
    ray_services: Index
    ray_jobs: Index
    jobs: Index
    network_policies: Index
    disruption_budgets: Index

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> "Mirror":
        """The mirror on the indices among a handler's keyword arguments: they go by the names of their functions."""
        return cls(**{field.name: keywords[field.name] for field in fields(cls)})

    def members(self, namespace: str, mode: str, cluster: str) -> list[Object]:
        """See `Live`."""
        return list(self.groups.get((namespace, mode, cluster), []))

    def ray_service(self, namespace: str, name: str) -> Object | None:
        """See `Live`."""
        return _only(self.ray_services, (namespace, name))

    def job(self, namespace: str, name: str) -> Object | None:
        """See `Live`."""
        return _only(self.jobs, (namespace, name))

    def ray_jobs_of(self, namespace: str, index: str) -> list[Object]:
        """See `Live`."""
        return list(self.ray_jobs.get((namespace, _INDEX, index), []))

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        """See `Live`."""
        return list(self.jobs.get((namespace, _INDEX, index), []))

    def child(self, kind: str, namespace: str, name: str) -> Object | None:
        """See `Live`."""
        return _only(self._index(kind), (namespace, name))

    def children(self, kind: str, namespace: str, cluster: str) -> Iterable[Object]:
        """See `Live`."""
        return list(self._index(kind).get((namespace, _CLUSTER, names.cluster_label(cluster)), []))

    def _index(self, kind: str) -> Index:
        return {"NetworkPolicy": self.network_policies, "PodDisruptionBudget": self.disruption_budgets}[kind]


def _only(index: Index, key: tuple[str, str]) -> Object | None:
    return next(iter(index.get(key, [])), None)
