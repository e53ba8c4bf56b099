"""Where the replicas of every shard are: learnt from their leases in the catalog, kept connected, asked in turn.

A replica is found once it holds everything its lease says, and is left when its connection ends, not when its lease
does: while the database is down nobody can renew one, and searches go on.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence

from visualindex.catalog import ReplicaAddress
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.ending import ended
from visualindex_serving.fanout import ShardCall
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard_link import ShardLink
from visualindex_serving.shard_wire import Place

logger = logging.getLogger(__name__)

ShardOf = tuple[str, int, int]
"""Index, number of a shard, and the number of shards that it is one of."""

Addresses = Callable[[Collection[str]], Awaitable[Sequence[ReplicaAddress]]]
"""The loaded replicas of the given indexes."""

_LOOK_S = 1.0
_LOOK_FOR_MISSING_S = 0.2
_PATIENCE_S = 0.5


class ShardDirectory:
    """Connections to every replica of the shards that were asked for with `connect`."""

    def __init__(self, addresses: Addresses, key: bytes) -> None:
        self._addresses = addresses
        self._key = key
        self._places: dict[ShardOf, Place] = {}
        self._links: dict[ShardOf, dict[str, ShardLink]] = {}
        self._loaded: dict[str, frozenset[str]] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._arrivals: dict[ShardOf, asyncio.Event] = defaultdict(asyncio.Event)
        self._wanted = asyncio.Event()
        self._reachable = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin looking for replicas in the background."""
        self._task = asyncio.create_task(self._look(), name="shard-directory")

    async def close(self) -> None:
        """Stop, and close every connection."""
        tasks = [task for task in (self._task, *self._dialling.values()) if task is not None]
        await ended(tasks)
        for links in self._links.values():
            for link in list(links.values()):
                link.abort()

    def connect(self, place: Place) -> ShardCall:
        """The way to ask a shard. Its call raises ProblemError UNAVAILABLE when no replica can be reached."""
        shard = (place.index, place.shard, place.shards)
        self._places[shard] = place
        self._links[shard] = {}
        self._wanted.set()

        return _Way(self, shard)

    def count(self, shard: ShardOf) -> int:
        """Replicas of a shard that are connected."""
        return len(self._links[shard])

    async def ask(self, shard: ShardOf, query: ShardQuery) -> ShardAnswer:
        """The answer of the replica that has least to do. Raises ProblemError UNAVAILABLE when none can be reached."""
        return await (await self._least_busy(shard, query.generation)).ask(query)

    def tell_news(self, index: str) -> None:
        """Let every replica of an index look into the change log now, where something was just written."""
        for (name, _, _), links in self._links.items():
            if name == index:
                for link in links.values():
                    link.tell_news()

    async def _least_busy(self, shard: ShardOf, generation: str) -> ShardLink:
        links = self._links[shard]
        if not links:
            await self._arrival(shard)
        if not links:
            index, number, _ = shard
            detail = f"No replica of shard {number} of index {index} can be reached; try again."
            raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1)
        # What a replica has loaded is known as of the last look: of those that seem to lack it, any may have it by now.
        having = [link for address, link in links.items() if generation in self._loaded.get(address, ())]
        among = having or list(links.values())
        return min(among, key=lambda link: (link.load, random.random()))  # noqa: S311 - spreads load

    async def _arrival(self, shard: ShardOf) -> None:
        """Wait a moment for a replica: one that was restarted is found within it."""
        self._wanted.set()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._arrivals[shard].wait()
        except TimeoutError:
            pass

    async def _look(self) -> None:
        while True:
            await self._find()
            missing = any(not links for links in self._links.values())
            try:
                async with asyncio.timeout(_LOOK_FOR_MISSING_S if missing else _LOOK_S):
                    await self._wanted.wait()
                await asyncio.sleep(_LOOK_FOR_MISSING_S / 4)  # several that want the same are served at once
            except TimeoutError:
                pass
            self._wanted.clear()

    async def _find(self) -> None:
        """Dial every replica that is not connected."""
        try:
            found = await self._addresses({place.index for place in self._places.values()})
        # Whatever it is, the next look may be luckier, and nothing else finds new replicas.
        except Exception as exc:
            if self._reachable:
                logger.warning("new shard replicas cannot be found for now", exc_info=exc)
            self._reachable = False
            return
        self._reachable = True
        self._loaded = {one.address: one.generations for one in found}
        for one in found:
            for shard in self._asked_for(one):
                if one.address not in self._links[shard] and one.address not in self._dialling:
                    task = asyncio.create_task(self._dial(shard, one.address), name=f"dial {one.address}")
                    self._dialling[one.address] = task

    def _asked_for(self, one: ReplicaAddress) -> list[ShardOf]:
        """The shard that a replica is one of; one that does not say of how many may be of any."""
        if one.shards is not None:
            shard = (one.index, one.shard, one.shards)
            return [shard] if shard in self._links else []
        return [known for known in self._links if known[:2] == (one.index, one.shard)]

    async def _dial(self, shard: ShardOf, address: str) -> None:
        links = self._links[shard]

        def ended(link: ShardLink) -> None:
            if links.get(address) is link:
                del links[address]
                self._wanted.set()
            if not links:
                self._arrivals[shard].clear()

        try:
            link = await ShardLink.connect(self._places[shard], address, self._key, ended)
            if link.open:
                links[address] = link
                self._arrivals[shard].set()
        except (OSError, TimeoutError, ValueError) as exc:  # ValueError: an address that is none
            logger.info("shard replica %s of %s does not answer: %s", address, shard, exc)
        finally:
            del self._dialling[address]


class _Way:
    """The way to one shard: a `fanout.ReplicatedCall`."""

    def __init__(self, directory: ShardDirectory, shard: ShardOf) -> None:
        self._directory = directory
        self._shard = shard

    async def __call__(self, query: ShardQuery) -> ShardAnswer:
        return await self._directory.ask(self._shard, query)

    @property
    def replicas(self) -> int:
        return self._directory.count(self._shard)
