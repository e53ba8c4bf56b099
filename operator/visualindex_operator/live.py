"""The children that are there, as the watches last showed them."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

Object = Mapping[str, Any]


def lean(body: Object) -> Object:
    """An object without the API server's account of who set which field, which is as long as the rest."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


class Live(Protocol):
    """A look at what the API server has, without asking it."""

    def members(self, namespace: str, mode: str, cluster: str) -> list[Object]:
        """The VisualIndex objects of a group."""

    def ray_service(self, namespace: str, name: str) -> Object | None:
        """A RayService of ours."""

    def job(self, namespace: str, name: str) -> Object | None:
        """A Job of ours."""

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        """The jobs of an index."""

    def child(self, kind: str, namespace: str, name: str) -> Object | None:
        """A NetworkPolicy or PodDisruptionBudget of ours."""

    def children(self, kind: str, namespace: str, cluster: str) -> Iterable[Object]:
        """All of one kind that belong to a cluster."""
