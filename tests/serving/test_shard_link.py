"""A gateway's connection to a shard: what is asked and answered, who may ask, and what becomes of queries when it ends."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvloop

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.frames import frame
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard_link import ShardLink
from visualindex_serving.shard_listener import Search, ShardListener

KEY = bytes(range(32))


def query(first: float = 1.0, **fields: object) -> ShardQuery:
    vectors = np.array([[first, 2.0, 3.0]], np.float32)
    return ShardQuery(vectors, 5, None, (), time.time() + 5, **fields)  # type: ignore[arg-type]


def answer(number: int) -> ShardAnswer:
    ids = np.full((1, 2, 16), number, np.uint8)
    scores = np.array([[0.5, 0.25]], np.float32)
    return ShardAnswer(ids, scores, np.array([2]), np.array([[4, 5]]), rows=7, cpu_ms=0.5, replica="r")


async def echo(asked: ShardQuery) -> ShardAnswer:
    return answer(int(asked.vectors[0, 0]))


@asynccontextmanager
async def listening(search: Search) -> AsyncIterator[tuple[ShardListener, str]]:
    listener = ShardListener(search, KEY)
    address = await listener.start("127.0.0.1")
    try:
        yield listener, address
    finally:
        await listener.close()


@asynccontextmanager
async def linked(
    address: str, on_end: Callable[[ShardLink], None] = lambda _: None
) -> AsyncIterator[ShardLink]:
    link = await ShardLink.connect(address, KEY, on_end)
    try:
        yield link
    finally:
        link.abort()


async def test_a_query_arrives_and_its_answer_comes_back_unchanged() -> None:
    seen: list[ShardQuery] = []

    async def search(asked: ShardQuery) -> ShardAnswer:
        seen.append(asked)
        return ShardAnswer(
            np.arange(64, dtype=np.uint8).reshape(2, 2, 16),
            np.array([[0.5, -0.25], [1.0, 0.0]], np.float32),
            np.array([2, 1]),
            np.array([[2**40, 7], [8, 9]]),
            rows=3,
            cpu_ms=1.5,
            behind_s=0.25,
            replica="abc",
        )

    sent = ShardQuery(
        np.arange(6, dtype=np.float32).reshape(2, 3),
        4,
        {"eq": {"category": "Stühle"}},
        (bytes(16), bytes(range(16))),
        time.time() + 3,
        token="a.b",
        strong=True,
        wait_s=0.5,
    )
    async with listening(search) as (_, address), linked(address) as link:
        got = await link.ask(sent)
    (asked,) = seen
    assert np.array_equal(asked.vectors, sent.vectors)
    assert asked.vectors.dtype == np.float32
    for name in ("k", "filter", "exclude", "token", "strong", "wait_s"):
        assert getattr(asked, name) == getattr(sent, name)
    assert sent.deadline - 1 < asked.deadline < sent.deadline + 1
    assert np.array_equal(got.ids, np.arange(64).reshape(2, 2, 16))
    assert np.array_equal(got.scores, np.array([[0.5, -0.25], [1.0, 0.0]], np.float32))
    assert got.counts.tolist() == [2, 1]
    assert got.versions.tolist() == [[2**40, 7], [8, 9]]
    assert (got.rows, got.cpu_ms, got.behind_s, got.replica) == (3, 1.5, 0.25, "abc")


async def test_many_queries_are_under_way_at_once_and_answered_out_of_order() -> None:
    turn = [asyncio.Event() for _ in range(4)]

    async def search(asked: ShardQuery) -> ShardAnswer:
        number = int(asked.vectors[0, 0])
        await turn[number].wait()
        if number:
            turn[number - 1].set()
        return answer(number)

    async with listening(search) as (_, address), linked(address) as link:
        asking = [asyncio.create_task(link.ask(query(number))) for number in range(4)]
        turn[3].set()
        answered = await asyncio.gather(*asking)
    assert [int(a.ids[0, 0, 0]) for a in answered] == [0, 1, 2, 3]


async def test_a_problem_crosses_whole_and_a_failure_says_nothing_of_its_inside() -> None:
    async def search(asked: ShardQuery) -> ShardAnswer:
        if asked.token:
            raise ProblemError(ProblemType.NOT_ACCEPTABLE_YET, "behind", retry_after_s=2.0, extra={"ms": 3})
        raise ZeroDivisionError("secret")

    async with listening(search) as (_, address), linked(address) as link:
        with pytest.raises(ProblemError) as caught:
            await link.ask(query(token="a.b"))
        assert caught.value.type is ProblemType.NOT_ACCEPTABLE_YET
        assert (caught.value.detail, caught.value.retry_after_s) == ("behind", 2.0)
        assert caught.value.extra == {"ms": 3}
        with pytest.raises(ProblemError) as failed:
            await link.ask(query())
        assert failed.value.type is ProblemType.INTERNAL
        assert "secret" not in failed.value.detail
        assert link.open


async def test_whoever_does_not_know_the_key_is_turned_away_on_both_sides() -> None:
    async with listening(echo) as (_, address):
        with pytest.raises(ConnectionError):
            await ShardLink.connect(address, bytes(32), lambda _: None)
        async with linked(address) as link:
            assert (await link.ask(query(9))).ids[0, 0, 0] == 9


async def test_a_stranger_gets_no_further_than_the_challenge() -> None:
    async with listening(echo) as (_, address):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        await reader.readexactly(8)
        writer.write(frame({"number": 1, "shape": [1, 3], "k": 1}, bytes(12)))
        assert b"scores" not in await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, bytes(8), frame({"nonce": "zz", "proof": "zz"})]
)
async def test_what_is_no_frame_ends_its_own_connection_alone(noise: bytes) -> None:
    async with listening(echo) as (_, address), linked(address) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(noise)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(100_000)
        writer.close()
        assert (await link.ask(query(4))).ids[0, 0, 0] == 4


async def test_queries_under_way_fail_at_once_when_the_replica_dies() -> None:
    asked = asyncio.Event()

    async def never(_: ShardQuery) -> ShardAnswer:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    ends: list[ShardLink] = []
    async with listening(never) as (listener, address), linked(address, ends.append) as link:
        asking = asyncio.create_task(link.ask(query()))
        await asked.wait()
        for session in list(listener._sessions):
            session.abort()
        with pytest.raises(ConnectionError):
            await asking
        assert ends == [link]
        assert not link.open
        with pytest.raises(ConnectionError):
            await link.ask(query())


async def test_a_replica_that_goes_away_in_order_answers_what_it_was_asked() -> None:
    asked, ended, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def search(_: ShardQuery) -> ShardAnswer:
        asked.set()
        await go.wait()
        return answer(8)

    listener = ShardListener(search, KEY)
    address = await listener.start("127.0.0.1")
    async with linked(address, lambda _: ended.set()) as link:
        asking = asyncio.create_task(link.ask(query()))
        await asked.wait()
        closing = asyncio.create_task(listener.close())
        await ended.wait()
        assert not link.open
        go.set()
        assert (await asking).ids[0, 0, 0] == 8
        await closing


async def test_a_replica_that_hangs_looks_busy_until_it_speaks_again() -> None:
    go = asyncio.Event()

    async def search(_: ShardQuery) -> ShardAnswer:
        await go.wait()
        return answer(1)

    async with listening(search) as (_, address), linked(address) as link:
        for _ in range(2):
            asking = asyncio.create_task(link.ask(query()))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert link.load == 2
        go.set()
        await link.ask(query())
        assert link.load == 0


async def test_nobody_there_is_an_error_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await ShardLink.connect(f"127.0.0.1:{port}", KEY, lambda _: None)


def test_serves_own_event_loop_will_do() -> None:
    async def scenario() -> int:
        async with listening(echo) as (_, address), linked(address) as link:
            return int((await link.ask(query(6))).ids[0, 0, 0])

    assert uvloop.run(scenario()) == 6
