"""Finding replicas by their leases, spreading queries over them, and leaving those that are gone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence

import numpy as np
import pytest

from visualindex.ann import Hits
from visualindex.catalog import ReplicaAddress
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.fanout import ShardCall
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard_directory import ShardDirectory
from visualindex_serving.shard_listener import ShardListener
from visualindex_serving.shard_wire import Place

KEY = bytes(range(32))
PLACE = Place("things", 0, 2, "encoder-a")
SHARD = ("things", 0, 2)


def query() -> ShardQuery:
    return ShardQuery(np.ones((1, 3), np.float32), 1, None, (), time.time() + 5)


class Leases:
    """What the catalog would say."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.down = False
        self.breaks = False
        self.looks = 0

    async def read(self, indexes: Collection[str]) -> Sequence[ReplicaAddress]:
        self.looks += 1
        if self.breaks:
            raise LookupError("no row")
        if self.down:
            raise ProblemError(ProblemType.UNAVAILABLE, "no database")
        here = [ReplicaAddress(*SHARD, address, frozenset()) for address in self.addresses]
        return [*here, ReplicaAddress("other", 3, 4, "192.0.2.1:1", frozenset())]


class Replica:
    """A replica that can hang and die."""

    def __init__(self, place: Place = PLACE) -> None:
        self.asked = 0
        self.hangs = False
        self.listener = ShardListener(self.search, place, KEY)
        self.address = ""

    async def search(self, _: ShardQuery) -> ShardAnswer:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        none = Hits.none(1, 0)
        return ShardAnswer(none.ids, none.scores, none.counts, none.versions, 0, 0.0)

    async def start(self) -> "Replica":
        self.address = await self.listener.start("127.0.0.1")
        return self

    def die(self) -> None:
        """As SIGKILL looks from outside: the port and its connections are gone without a word."""
        assert self.listener._server is not None
        self.listener._server.close()
        for session in list(self.listener.sessions):
            session.abort()


@pytest.fixture
async def leases() -> Leases:
    return Leases()


@pytest.fixture
async def directory(leases: Leases) -> AsyncIterator[ShardDirectory]:
    directory = ShardDirectory(leases.read, KEY)
    directory.start()
    yield directory
    await directory.close()


@pytest.fixture
async def replicas(leases: Leases) -> AsyncIterator[list[Replica]]:
    found = [await Replica().start() for _ in range(2)]
    leases.addresses = [replica.address for replica in found]
    yield found
    for replica in found:
        await replica.listener.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


async def connected(directory: ShardDirectory, count: int) -> None:
    await until(lambda: len(directory._links[SHARD]) == count)


async def asking_both(directory: ShardDirectory) -> ShardCall:
    """The way to ask the shard, once both of its replicas have been found."""
    ask = directory.connect(PLACE)
    await ask(query())
    await connected(directory, 2)
    return ask


async def test_queries_are_spread_over_all_replicas(
    directory: ShardDirectory, replicas: list[Replica]
) -> None:
    ask = await asking_both(directory)
    await asyncio.gather(*(ask(query()) for _ in range(40)))
    assert min(replica.asked for replica in replicas) >= 10


async def test_a_replica_that_hangs_is_asked_no_more_while_another_answers(
    directory: ShardDirectory, replicas: list[Replica]
) -> None:
    ask = await asking_both(directory)
    replicas[0].hangs = True
    hanging = [asyncio.create_task(ask(query())) for _ in range(4)]
    await until(lambda: sum(task.done() for task in hanging) + replicas[0].asked >= 4)
    assert replicas[0].asked
    before = replicas[0].asked
    for _ in range(10):
        await ask(query())
    assert replicas[0].asked == before
    for task in hanging:
        task.cancel()


async def test_a_dead_replica_is_left_and_its_successor_is_found(
    directory: ShardDirectory, leases: Leases, replicas: list[Replica]
) -> None:
    ask = await asking_both(directory)
    replicas[0].die()
    await connected(directory, 1)
    await ask(query())
    successor = await Replica().start()
    leases.addresses = [replicas[0].address, replicas[1].address, successor.address]
    await connected(directory, 2)
    await asyncio.gather(*(ask(query()) for _ in range(20)))
    assert successor.asked
    await successor.listener.close()


async def test_a_shard_without_replicas_is_unavailable_soon_and_found_when_it_comes(
    directory: ShardDirectory, leases: Leases
) -> None:
    ask = directory.connect(PLACE)
    with pytest.raises(ProblemError) as caught:
        await ask(query())
    assert caught.value.type is ProblemType.UNAVAILABLE
    assert "shard 0 of index things" in caught.value.detail
    asking = asyncio.create_task(ask(query()))
    replica = await Replica().start()
    leases.addresses = [replica.address]
    await asking
    await replica.listener.close()


async def test_searches_go_on_while_the_database_is_down_and_leases_run_out(
    directory: ShardDirectory, leases: Leases, replicas: list[Replica]
) -> None:
    ask = await asking_both(directory)
    leases.down = True
    looked = leases.looks
    replicas[0].die()  # makes it look again
    await connected(directory, 1)
    await until(lambda: leases.looks > looked)
    await ask(query())
    leases.down, leases.addresses = False, []
    looked = leases.looks
    await until(lambda: leases.looks > looked)
    await ask(query())
    assert replicas[1].asked >= 2


async def test_another_shard_at_an_address_of_old_does_not_answer_for_it(
    directory: ShardDirectory, leases: Leases
) -> None:
    other = await Replica(Place("things", 0, 3, "encoder-a")).start()
    leases.addresses = [other.address]
    with pytest.raises(ProblemError):
        await directory.connect(PLACE)(query())
    assert other.asked == 0
    await other.listener.close()


async def test_looking_goes_on_after_whatever_a_look_met(
    directory: ShardDirectory, leases: Leases, replicas: list[Replica]
) -> None:
    addresses, leases.addresses = leases.addresses, ["no address"]
    leases.breaks = True
    ask = directory.connect(PLACE)
    looked = leases.looks
    await until(lambda: leases.looks > looked + 1)
    leases.breaks = False
    looked = leases.looks
    await until(lambda: leases.looks > looked + 1)
    leases.addresses = addresses
    await ask(query())
