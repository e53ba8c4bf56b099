"""The children that are there, as the watches last showed them."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from visualindex_operator.ownership import FOREIGN, foreign_paths

Object = Mapping[str, Any]


def lean(body: Object) -> Object:
    """An object with what others set in its spec, in place of the whole account of who set which field."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    foreign = foreign_paths(body)
    return {**body, "metadata": metadata, **({FOREIGN: foreign} if foreign else {})}


class Live(Protocol):
    """A look at what the API server has, without asking it."""

    def members(self, namespace: str, mode: str, cluster: str) -> list[Object]:
        """The VisualIndex objects of a group."""

    def ray_service(self, namespace: str, name: str) -> Object | None:
        """A RayService of ours."""

    def job(self, namespace: str, name: str) -> Object | None:
        """A Job of ours."""

    def ray_jobs_of(self, namespace: str, index: str) -> list[Object]:
        """The RayJobs of an index."""

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        """The jobs of an index."""

    def child(self, kind: str, namespace: str, name: str) -> Object | None:
        """A NetworkPolicy or PodDisruptionBudget of ours."""

    def children(self, kind: str, namespace: str, cluster: str) -> Iterable[Object]:
        """All of one kind that belong to a cluster."""
