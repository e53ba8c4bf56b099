"""A gateway's connection to a shard: what is asked and answered, who may ask, and what becomes of queries when it ends."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import uvloop

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.frames import MAX_HEAD, STRANGER_BYTES, BrokenStreamError, frame
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard_link import ShardLink
from visualindex_serving.shard_listener import STRANGERS, Search, ShardListener
from visualindex_serving.shard_wire import Place, proof, query_frame

KEY = bytes(range(32))
PLACE = Place("things", 0, 2, "encoder-a")


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
async def listening(search: Search, **options: Any) -> AsyncIterator[tuple[ShardListener, str]]:
    listener = ShardListener(search, PLACE, KEY, **options)
    address = await listener.start("127.0.0.1")
    try:
        yield listener, address
    finally:
        await listener.close()


@asynccontextmanager
async def linked(
    address: str, on_end: Callable[[ShardLink], None] = lambda _: None
) -> AsyncIterator[ShardLink]:
    link = await ShardLink.connect(PLACE, address, KEY, on_end)
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


async def test_news_reaches_the_shard_without_an_answer_and_before_the_next_query() -> None:
    told: list[str] = []

    async def search(asked: ShardQuery) -> ShardAnswer:
        told.append("query")
        return answer(1)

    async with listening(search, news=lambda: told.append("news")) as (_, address), linked(address) as link:
        link.tell_news()
        await link.ask(query())
    assert told == ["news", "query"]


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


class Peer:
    """The other end of a connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def dial(cls, address: str) -> "Peer":
        return cls(*await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2])))

    async def heard(self) -> dict[str, Any]:
        head_bytes, body_bytes = struct.unpack("<II", await self.reader.readexactly(8))
        head: dict[str, Any] = orjson.loads(await self.reader.readexactly(head_bytes))
        await self.reader.readexactly(body_bytes)
        return head

    async def ended(self) -> bool:
        """Wait for the end of the connection; True when nothing more came before it."""
        try:
            async with asyncio.timeout(10):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    def say(self, data: bytes) -> None:
        self.writer.write(data)


@asynccontextmanager
async def stranger(address: str) -> AsyncIterator[Peer]:
    peer = await Peer.dial(address)
    try:
        yield peer
    finally:
        peer.writer.close()


def greeting(
    nonce: bytes, challenge: bytes, address: str, *, key: bytes = KEY, place: Place = PLACE
) -> bytes:
    shown = proof(key, "gateway", place, address, (nonce, challenge))
    return frame({"nonce": nonce.hex(), "proof": shown.hex()})


async def test_a_gateway_with_the_key_is_admitted_and_answered() -> None:
    async with listening(echo) as (_, address), stranger(address) as peer:
        challenge = bytes.fromhex((await peer.heard())["nonce"])
        peer.say(greeting(bytes(32), challenge, address))
        shown = proof(KEY, "shard", PLACE, address, (bytes(32), challenge))
        assert await peer.heard() == {"proof": shown.hex()}
        peer.say(query_frame(3, query()))
        assert (await peer.heard())["number"] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": bytes(32)},
        {"place": replace(PLACE, index="chairs")},
        {"place": replace(PLACE, shard=1)},
        {"place": replace(PLACE, shards=1)},
        {"place": replace(PLACE, fingerprint="encoder-b")},
        {"address": "127.0.0.1:1"},
        {"challenge": bytes(32)},
    ],
    ids=str,
)
async def test_a_gateway_without_the_right_proof_is_not_answered(wrong: dict[str, Any]) -> None:
    async with listening(echo) as (_, address), stranger(address) as peer:
        challenge = bytes.fromhex((await peer.heard())["nonce"])
        said: dict[str, Any] = {"challenge": challenge, "address": address, **wrong}
        peer.say(greeting(bytes(32), **said))
        peer.say(query_frame(1, query()))
        assert await peer.ended()


@pytest.mark.parametrize("dimension", [3, 0], ids=["with a body", "head alone"])
async def test_a_query_before_the_proof_is_not_answered(dimension: int) -> None:
    early = replace(query(), vectors=np.ones((1, dimension), np.float32))
    asked: list[ShardQuery] = []

    async def search(one: ShardQuery) -> ShardAnswer:
        asked.append(one)
        return answer(1)

    async with listening(search) as (_, address), stranger(address) as peer:
        await peer.heard()
        peer.say(query_frame(1, early))
        assert await peer.ended()
    assert asked == []


@pytest.mark.parametrize(
    "shown",
    [
        proof(bytes(32), "shard", PLACE, "", (b"", b"")),
        lambda address, nonces: proof(KEY, "gateway", PLACE, address, nonces),
        lambda address, nonces: proof(bytes(32), "shard", PLACE, address, nonces),
        lambda address, nonces: proof(KEY, "shard", replace(PLACE, index="chairs"), address, nonces),
        lambda address, nonces: proof(KEY, "shard", PLACE, "127.0.0.1:1", nonces),
    ],
    ids=["anything", "reflected", "wrong key", "wrong index", "another address"],
)
async def test_a_shard_without_the_right_proof_is_not_asked(shown: Any) -> None:
    heard: list[dict[str, Any]] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        peer.say(frame({"nonce": bytes(32).hex()}))
        head = await peer.heard()
        heard.append(head)
        nonces = (bytes.fromhex(head["nonce"]), bytes(32))
        peer.say(frame({"proof": (shown if isinstance(shown, bytes) else shown(address, nonces)).hex()}))
        await peer.ended()
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectionError):
            await ShardLink.connect(PLACE, address, KEY, lambda _: None)
    assert len(heard) == 1


async def test_a_stranger_has_little_room_and_time() -> None:
    async with listening(echo, stranger_s=0.05) as (_, address), stranger(address) as silent:
        await silent.heard()
        assert await silent.ended()
    async with listening(echo, stranger_s=60) as (_, address), stranger(address) as loud:
        await loud.heard()
        loud.say(struct.pack("<II", STRANGER_BYTES + 1, 0))
        assert await loud.ended()


async def test_strangers_are_bounded_in_number_and_leave_room_for_gateways(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(echo, stranger_s=60) as (listener, address), AsyncExitStack() as stack:
        link = await stack.enter_async_context(linked(address))
        peers = [await stack.enter_async_context(stranger(address)) for _ in range(STRANGERS)]
        for peer in peers:
            await peer.heard()
        for _ in range(3):
            async with stranger(address) as refused:
                assert await refused.ended()
        assert len(listener.sessions) == STRANGERS + 1
        assert (await link.ask(query(5))).ids[0, 0, 0] == 5
    assert caplog.text.count("refused") == 1


async def test_a_query_too_large_to_send_costs_itself_alone() -> None:
    go = asyncio.Event()

    async def search(asked: ShardQuery) -> ShardAnswer:
        await go.wait()
        return answer(int(asked.vectors[0, 0]))

    async with listening(search) as (_, address), linked(address) as link:
        other = asyncio.create_task(link.ask(query(2)))
        await asyncio.sleep(0)
        huge = replace(query(1), filter={"eq": {"category": "x" * (MAX_HEAD + 1)}})
        with pytest.raises(BrokenStreamError):
            await link.ask(huge)
        assert link.load == 1
        go.set()
        assert (await other).ids[0, 0, 0] == 2


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
        for session in list(listener.sessions):
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

    listener = ShardListener(search, PLACE, KEY)
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
        await ShardLink.connect(PLACE, f"127.0.0.1:{port}", KEY, lambda _: None)


def test_serves_own_event_loop_will_do() -> None:
    async def scenario() -> int:
        async with listening(echo) as (_, address), linked(address) as link:
            return int((await link.ask(query(6))).ids[0, 0, 0])

    assert uvloop.run(scenario()) == 6
