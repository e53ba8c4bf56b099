"""The Serve deployment of a shard. Serve starts, watches and replaces it; gateways ask it on a port of its own."""

import asyncio
import logging
import secrets
from functools import partial
from typing import Any

from visualindex.ann.families import gpus
from visualindex.catalog import Catalog
from visualindex.footprint import CONNECTIONS_PER_SHARD, generation_cache
from visualindex.generations import NodeCache
from visualindex.objectstore import ObjectStore, open_store
from visualindex.spec import VisualIndex
from visualindex_serving.config import Runtime, read_specs
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.patience import once_there
from visualindex_serving.settling import settle
from visualindex_serving.shard import ShardReplica, not_registered
from visualindex_serving.shard_listener import ShardListener
from visualindex_serving.shard_wire import Place, link_key

logger = logging.getLogger(__name__)


class Shard:
    """Serve's view of a shard replica. `peers` only ties the application's other deployments to its root."""

    def __init__(self, document: dict[str, Any], shard: int, *peers: Any) -> None:
        (self._resource,) = read_specs([document])
        self._number = shard
        self._starting = asyncio.Lock()
        self._catalog: Catalog | None = None
        self._store: ObjectStore | None = None
        self._listener: ShardListener | None = None
        self._replica: ShardReplica | None = None

    async def check_health(self) -> None:
        """Serve's first call loads the shard. Raises RuntimeError when a part of the replica has stopped."""
        async with self._starting:
            if self._replica is None:
                self._replica = await self._opened()
                settle()
        self._replica.check()
        if self._listener is None or not self._listener.serving:
            raise RuntimeError(f"shard {self._number} has no port any more")

    async def _opened(self) -> ShardReplica:
        runtime = await Runtime.from_env()
        opening = partial(
            Catalog.open,
            runtime.credentials.dsn,
            max_connections=CONNECTIONS_PER_SHARD,
            application_name=f"visualindex-shard-{self._number}",
        )
        self._catalog = await once_there("the database", opening)
        first = await registered(self._catalog, self._resource.name)
        key = link_key(await self._catalog.service_secret(secrets.token_bytes))
        place = Place(self._resource.name, self._number, self._resource.spec.index.shards, first)
        self._listener = ShardListener(self._search, place, key, news=self._news)
        address = await self._listener.start(runtime.node_address())
        files = self._files(runtime)
        replica = ShardReplica(self._resource, self._number, self._catalog, address=address, files=files)
        await replica.open()
        return replica

    def _files(self, runtime: Runtime) -> GenerationFiles:
        spec = self._resource.spec
        self._store = open_store(
            spec.storage, default_folder=runtime.state_dir / "objects", credentials=runtime.credentials
        )
        cache = NodeCache(runtime.cache_dir / "generations", generation_cache(spec))
        return GenerationFiles(self._store, cache, gpu=has_gpu(self._resource))

    async def _search(self, query: ShardQuery) -> ShardAnswer:
        if self._replica is None:  # nobody is told the address before the load
            raise not_registered(self._resource.name)
        return await self._replica.search(query)

    def _news(self) -> None:
        if self._replica is not None:
            self._replica.tell_news()

    async def __del__(self) -> None:
        """When Serve stops the replica in good order, gateways are told and answered before anything ends."""
        if self._listener is not None:
            await self._listener.close()
        if self._replica is not None:
            await self._replica.close()
        if self._store is not None:
            await self._store.close()
        if self._catalog is not None:
            await self._catalog.close()


def has_gpu(resource: VisualIndex) -> bool:
    """Whether this replica was given a GPU; says so where Faiss has no use for it."""
    given = resource.spec.index.num_gpus > 0
    if given and not gpus():
        logger.warning(
            "index.numGpus gives shards of %s a GPU, but Faiss sees none, so they are searched on the CPU: use an image "
            "with faiss-gpu in place of faiss-cpu on nodes with a driver for it, or set index.numGpus to 0",
            resource.name,
        )
    return given


async def registered(catalog: Catalog, index: str) -> str:
    """The fingerprint by which gateways and shards of the index know each other; a gateway registers it at its start."""

    async def look() -> str:
        record = await catalog.get_index(index)
        if record is None:
            raise not_registered(index)
        return record.first_fingerprint

    return await once_there("the index's registration", look)
