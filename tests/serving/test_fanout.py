"""One search over several shards: a shard's trouble costs its own hits, a hanging replica costs nothing."""

import asyncio
import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.fanout import Fanout, ShardCall
from visualindex_serving.hedging import Hedging
from visualindex_serving.messages import ShardAnswer, ShardQuery


def query(seconds: float = 5.0) -> ShardQuery:
    return ShardQuery(np.ones((1, 4), np.float32), 3, None, (), time.time() + seconds)


def answer(number: int, behind_s: float | None = None) -> ShardAnswer:
    ids = np.full((1, 1, 16), number, np.uint8)
    scores = np.array([[0.1 * number]], np.float32)
    return ShardAnswer(ids, scores, np.array([1]), np.array([[1]]), 10, 0.1, behind_s=behind_s)


def answering(number: int) -> ShardCall:
    async def call(_: ShardQuery) -> ShardAnswer:
        return answer(number)

    return call


def failing(problem: ProblemError) -> ShardCall:
    async def call(_: ShardQuery) -> ShardAnswer:
        raise problem

    return call


@pytest.mark.parametrize(
    "kind", [ProblemType.UNAVAILABLE, ProblemType.DEADLINE_EXCEEDED, ProblemType.OVERLOADED]
)
async def test_a_shard_in_trouble_makes_the_answer_incomplete(kind: ProblemType) -> None:
    merged = await Fanout([answering(1), failing(ProblemError(kind, "trouble")), answering(2)]).search(
        query()
    )
    assert not merged.complete
    assert [r.answer is not None for r in merged.reports] == [True, False, True]
    assert merged.hits.ids[0, :2, 0].tolist() == [2, 1]


async def test_a_problem_of_the_request_itself_is_the_answer() -> None:
    with pytest.raises(ProblemError) as caught:
        await Fanout([answering(1), failing(ProblemError(ProblemType.INVALID_FILTER, "no"))]).search(query())
    assert caught.value.type is ProblemType.INVALID_FILTER


async def test_no_shard_at_all_is_unavailable_and_late_shards_are_late() -> None:
    gone = Fanout([failing(ProblemError(ProblemType.UNAVAILABLE, "gone"))])
    with pytest.raises(ProblemError) as caught:
        await gone.search(query())
    assert caught.value.type is ProblemType.UNAVAILABLE

    async def hanging(_: ShardQuery) -> ShardAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ProblemError) as caught:
        await Fanout([hanging]).search(query(0.1))
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED


async def test_a_hanging_replica_is_answered_for_by_another() -> None:
    asked = 0

    async def first_hangs(_: ShardQuery) -> ShardAnswer:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return answer(7)

    merged = await Fanout([first_hangs]).search(query(2.0))
    assert merged.complete
    assert asked == 2


class TwoReplicas:
    """A shard whose every tenth search meets a replica that hangs, until no search does any more."""

    replicas = 2

    def __init__(self, hangs: Callable[[int], bool]) -> None:
        self.hangs = hangs
        self.asked = 0

    async def __call__(self, _: ShardQuery) -> ShardAnswer:
        self.asked += 1
        if self.hangs(self.asked):
            await asyncio.Event().wait()
        return answer(7)


async def searches(shard: ShardCall, count: int) -> None:
    fanout = Fanout([shard])
    for _ in range(count):
        assert (await fanout.search(query(3600.0))).complete


async def test_a_replica_that_is_slower_than_usual_is_answered_for_long_before_the_deadline() -> None:
    shard = TwoReplicas(lambda asked: asked > 200 and asked % 100 == 0)
    async with asyncio.timeout(60):
        await searches(shard, 1000)
    assert 1000 < shard.asked <= 1010


async def test_second_requests_are_few_where_every_replica_is_slow() -> None:
    hedging = Hedging(lambda: 2)
    for _ in range(64):
        hedging.took(0.001)
    hedged = 0
    for _ in range(1000):
        hedging.asked()
        if hedging.after_s < math.inf:
            hedging.hedged()
            hedged += 1
    assert hedged <= 10 + 0.05 * 1000


async def test_one_replica_alone_is_not_asked_twice_because_it_is_slow() -> None:
    hedging = Hedging(lambda: 1)
    for _ in range(64):
        hedging.took(0.001)
    assert hedging.after_s == math.inf


async def test_the_second_request_waits_for_as_long_as_most_searches_take() -> None:
    hedging = Hedging(lambda: 2)
    assert hedging.after_s == math.inf, "nothing is known yet"
    for number in range(256):
        hedging.took(0.05 if number % 10 else 0.2)
    assert hedging.after_s == 0.2
    for _ in range(256):
        hedging.took(0.001)
    assert hedging.after_s == 0.01, "sooner would be noise"


async def test_a_hedge_that_fails_does_not_spoil_the_first_answer() -> None:
    asked = 0
    release = asyncio.Event()

    async def slow_then_broken(_: ShardQuery) -> ShardAnswer:
        nonlocal asked
        asked += 1
        if asked == 1:
            await release.wait()
            return answer(5)
        release.set()
        raise ProblemError(ProblemType.OVERLOADED, "full")

    merged = await Fanout([slow_then_broken]).search(query(1.0))
    assert merged.complete
    assert merged.hits.ids[0, 0, 0] == 5


def breaking_as_its_hedge_answers() -> ShardCall:
    asked = 0
    both = asyncio.Event()

    async def call(_: ShardQuery) -> ShardAnswer:
        nonlocal asked
        asked += 1
        if asked == 1:
            await both.wait()
            raise ProblemError(ProblemType.OVERLOADED, "full")
        both.set()
        await asyncio.sleep(0)
        return answer(5)

    return call


async def test_of_two_replicas_that_finish_together_the_one_that_answers_counts() -> None:
    shards = [breaking_as_its_hedge_answers() for _ in range(20)]  # which comes first out of a set is chance
    assert (await Fanout(shards).search(query(0.5))).complete


async def test_a_replica_that_dies_under_the_call_is_asked_again() -> None:
    asked = 0

    async def dies_once(_: ShardQuery) -> ShardAnswer:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ConnectionError("the actor died")
        return answer(1)

    assert (await Fanout([dies_once]).search(query())).complete


async def test_a_shard_behind_the_token_says_how_far() -> None:
    async def behind(_: ShardQuery) -> ShardAnswer:
        return answer(1, behind_s=0.5)

    with pytest.raises(ProblemError) as caught:
        await Fanout([behind, answering(2)]).search(query())
    assert caught.value.type is ProblemType.NOT_ACCEPTABLE_YET
    assert caught.value.document()["behind_ms"] == 500
