"""`Live` on kopf's indices: in memory, filled before the first handler runs, kept by its watches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import kopf

from visualindex_operator import names
from visualindex_operator.live import Object

Index = kopf.Index[Any, Any]


@dataclass(frozen=True)
class Mirror:
    """The indices that the handlers were given."""

    groups: Index
    ray_services: Index
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

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        """See `Live`."""
        found = [next(iter(self.jobs[key])) for key in self.jobs if key[0] == namespace]
        return [job for job in found if job["metadata"]["labels"].get(names.INDEX_LABEL) == index]

    def child(self, kind: str, namespace: str, name: str) -> Object | None:
        """See `Live`."""
        return _only(self._index(kind), (namespace, name))

    def children(self, kind: str, namespace: str, cluster: str) -> Iterable[Object]:
        """See `Live`."""
        index = self._index(kind)
        found = [next(iter(index[key])) for key in index if key[0] == namespace]
        return [
            one
            for one in found
            if one["metadata"]["labels"].get(names.CLUSTER_LABEL) == names.cluster_label(cluster)
        ]

    def _index(self, kind: str) -> Index:
        return {"NetworkPolicy": self.network_policies, "PodDisruptionBudget": self.disruption_budgets}[kind]


def _only(index: Index, key: tuple[str, str]) -> Object | None:
    return next(iter(index.get(key, [])), None)
