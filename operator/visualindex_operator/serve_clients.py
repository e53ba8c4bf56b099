"""Connections to the clusters in use: one per address and token, closed when no index needs it any more."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from visualindex.spec.models import ExternalRaySpec
from visualindex_operator.cluster_locks import normalised
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_problems import ClusterRefused

User = tuple[str, str]
"""Namespace and name of an index."""
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Access:
    """A cluster, and the token that opens it."""

    address: str
    token: str | None = field(default=None, repr=False)


async def access(checks: DependencyChecks, namespace: str, external: ExternalRaySpec) -> Access:
    """The way to a cluster, with the token that its Secret has now. Raises ClusterRefused and KubeError."""
    address = normalised(external.address)
    reference = external.token_secret_ref
    if reference is None:
        return Access(address)
    found = await checks.value(namespace, reference, "spec.ray.external.tokenSecretRef")
    if not isinstance(found, str):
        raise ClusterRefused(found.check.message)
    if not _TOKEN.fullmatch(found):
        raise ClusterRefused(
            f"Secret {reference.name}, key {reference.key} (spec.ray.external.tokenSecretRef) is no token: it is empty or "
            "has blanks, line ends or letters outside of ASCII; store the cluster's token alone"
        )
    return Access(address, found)


@dataclass
class _Open:
    api: ServeAPI
    users: set[User] = field(default_factory=set)
    calls: int = 0
    """How many are using it right now."""


class ServeClients:
    """The open clients, by what they lead to."""

    def __init__(self) -> None:
        self._open: dict[Access, _Open] = {}

    @asynccontextmanager
    async def of(self, users: Iterable[User], way: Access) -> AsyncIterator[ServeAPI]:
        """The client of a cluster, which from now on is the one that these indexes use."""
        users = set(users)
        for one in self._open.values():
            one.users -= users
        if way not in self._open:
            self._open[way] = _Open(ServeAPI(way.address, way.token))
        client = self._open[way]
        client.users |= users
        client.calls += 1
        try:
            yield client.api
        finally:
            client.calls -= 1
            await self._close_unused()

    def forget(self, user: User) -> None:
        """The index is gone. Its client, where no other index uses it, is closed after the next use of any."""
        for one in self._open.values():
            one.users.discard(user)

    async def close(self) -> None:
        """Closes all of them."""
        while self._open:
            await self._open.popitem()[1].api.close()

    async def _close_unused(self) -> None:
        for way in [way for way, one in self._open.items() if not one.users and not one.calls]:
            await self._open.pop(way).api.close()
