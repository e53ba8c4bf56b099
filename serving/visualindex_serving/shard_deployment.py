"""The Serve deployment of a shard."""

import asyncio
import time
from typing import Any

from visualindex.catalog import Catalog
from visualindex_serving.config import Runtime, read_specs
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard import ShardReplica, not_registered

_REGISTRATION_S = 300.0


class Shard:
    """Serve's view of a shard replica. `peers` only ties the application's other deployments to its root."""

    def __init__(self, document: dict[str, Any], shard: int, *peers: Any) -> None:
        (self._resource,) = read_specs([document])
        self._number = shard
        self._starting = asyncio.Lock()
        self._replica: ShardReplica | None = None
        self._catalog: Catalog | None = None

    async def check_health(self) -> None:
        """Serve calls this before it routes anything here: the first call loads the shard."""
        (await self._opened()).check()

    async def search(self, query: ShardQuery) -> ShardAnswer:
        """Answer a batch of searches."""
        replica = self._replica or await self._opened()
        return await replica.search(query)

    async def _opened(self) -> ShardReplica:
        async with self._starting:
            if self._replica is None:
                runtime = Runtime.from_env()
                self._catalog = await Catalog.open(
                    runtime.dsn, max_connections=2, application_name=f"visualindex-shard-{self._number}"
                )
                fingerprint = await _registered(self._catalog, self._resource.name)
                replica = ShardReplica(self._resource, self._number, self._catalog, fingerprint)
                await replica.open()
                self._replica = replica
            return self._replica

    async def __del__(self) -> None:
        """Give the lease back when Serve stops the replica in good order."""
        if self._replica is not None:
            await self._replica.close()
        if self._catalog is not None:
            await self._catalog.close()


async def _registered(catalog: Catalog, index: str) -> str:
    """The fingerprint under which the index is registered; its gateway or encoder registers it at its own start."""
    until = time.monotonic() + _REGISTRATION_S
    while time.monotonic() < until:
        record = await catalog.get_index(index)
        if record is not None:
            return record.fingerprint
        await asyncio.sleep(0.1)
    raise not_registered(index)
