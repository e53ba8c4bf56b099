"""What one slow replica costs the searches of its shard, with a second one asked late and with one asked soon.

    python -m benchmarks.hedging [--slow-ms 400] [--searches 600]

Two replicas of one shard listen on this machine, and are asked as a gateway asks them. Instead of searching they wait: 4 ms
each, until one of them begins to take far longer. The baseline asks a second replica when half of a search's time is over,
which is what is left without the measured moment.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from visualindex.ann import Hits
from visualindex.catalog import ReplicaAddress
from visualindex_serving.fanout import Fanout
from visualindex_serving.hedging import Hedging
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard_directory import ShardDirectory
from visualindex_serving.shard_listener import ShardListener
from visualindex_serving.shard_wire import Place

_KEY = bytes(range(32))
_PLACE = Place("things", 0, 1, "encoder-a")
_USUAL_S = 0.004
_DEADLINE_S = 2.0
_WARM = 300
_AT_ONCE = (1, 8)


class Waiting:
    """A replica that takes a while and finds nothing."""

    def __init__(self) -> None:
        self.takes_s = _USUAL_S
        self.asked = 0
        self.listener = ShardListener(self._search, _PLACE, _KEY)

    async def _search(self, _: ShardQuery) -> ShardAnswer:
        self.asked += 1
        await asyncio.sleep(self.takes_s * random.uniform(0.8, 1.2))
        none = Hits.none(1, 0)
        return ShardAnswer(none.ids, none.scores, none.counts, none.versions, 0, 0.0)


async def _searches(fanout: Fanout, count: int, at_once: int) -> list[float]:
    """Milliseconds of each."""
    taken: list[float] = []

    async def ask() -> None:
        for _ in range(count // at_once):
            query = ShardQuery(np.ones((1, 3), np.float32), 1, None, (), time.time() + _DEADLINE_S)
            began = time.perf_counter()
            await fanout.search(query)
            taken.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(ask() for _ in range(at_once)))
    return taken


async def _measured(at_once: int, searches: int, slow_s: float) -> str:
    replicas = [Waiting(), Waiting()]
    addresses = [await replica.listener.start("127.0.0.1") for replica in replicas]

    async def leases(_: Collection[str]) -> Sequence[ReplicaAddress]:
        return [ReplicaAddress(_PLACE.index, 0, 1, address, frozenset()) for address in addresses]

    directory = ShardDirectory(leases, _KEY)
    directory.start()
    try:
        fanout = Fanout([directory.connect(_PLACE)])
        await _searches(fanout, _WARM, at_once)
        replicas[1].takes_s = slow_s
        before = sum(replica.asked for replica in replicas)
        taken = await _searches(fanout, searches, at_once)
        further = sum(replica.asked for replica in replicas) - before - len(taken)
    finally:
        await directory.close()
        for replica in replicas:
            await replica.listener.close()
    cells = [f"{value:.1f}" for value in np.percentile(taken, (50, 99, 99.9))]
    return f"{' | '.join(cells)} | {further}"


@contextmanager
def _late(late: bool) -> Iterator[None]:
    """With `late`, no replica is ever asked sooner than when half of the time is over."""
    if late:
        with patch.object(Hedging, "after_s", float("inf")):
            yield
    else:
        yield


def main() -> None:
    """Print a row for each way and load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow-ms", type=float, default=400, help="what one of the replicas takes")
    parser.add_argument("--searches", type=int, default=600)
    asked = parser.parse_args()
    print(
        "| second replica | at once | p50 ms | p99 ms | p99.9 ms | further requests |\n|---|---|---|---|---|---|"
    )
    for at_once in _AT_ONCE:
        for name, late in (("after half of the time", True), ("after the 95th percentile", False)):
            with _late(late):
                cells = asyncio.run(_measured(at_once, asked.searches, asked.slow_ms / 1000))
            print(f"| {name} | {at_once} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
