"""A gateway's connection to one replica of a shard: many queries under way at once, each answered under its number."""

import asyncio
import hmac
import itertools
import secrets
from collections.abc import Callable
from typing import Any, Literal, Self

from visualindex.errors import ProblemError
from visualindex_serving import shard_wire as wire
from visualindex_serving.frames import BrokenStreamError, FrameProtocol, frame
from visualindex_serving.messages import ShardAnswer, ShardQuery

_CONNECT_S = 2.0


class ShardLink(FrameProtocol):
    """An open connection. `on_end` is called once, when it takes no more queries."""

    def __init__(
        self, place: wire.Place, address: str, key: bytes, on_end: Callable[["ShardLink"], None]
    ) -> None:
        super().__init__()
        self._place = place
        self._address = address
        self._key = key
        self._on_end = on_end
        self._nonce = secrets.token_bytes(32)
        self._challenge: bytes | None = None
        self._known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[ShardAnswer]] = {}
        self._given_up = 0
        self._takes_news = False
        self._ended = False

    @classmethod
    async def connect(
        cls, place: wire.Place, address: str, key: bytes, on_end: Callable[["ShardLink"], None]
    ) -> Self:
        """Connect to the replica of `place` at `host:port` and prove to each other who is there.

        Raises OSError, also when another replica is there now, or TimeoutError.
        """
        host, _, port = address.rpartition(":")
        link = cls(place, address, key, on_end)
        async with asyncio.timeout(_CONNECT_S):
            try:
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: link, host.strip("[]"), int(port))
                await link._known
            except BaseException:
                link.abort()
                raise
        return link

    @property
    def open(self) -> bool:
        """Whether it takes queries."""
        return not self._ended

    @property
    def load(self) -> int:
        """Queries under way, and those given up since the replica last said anything: one that hangs looks busy."""
        return len(self._pending) + self._given_up

    async def ask(self, query: ShardQuery) -> ShardAnswer:
        """The replica's answer.

        Raises the ProblemError it answered, ConnectionError when it went away, or BrokenStreamError for a query that is
        too large to send.
        """
        if self._ended:
            raise ConnectionError("the replica is going away")
        number = next(self._numbers)
        sent = wire.query_frame(number, query)
        answer: asyncio.Future[ShardAnswer] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        self.send(sent)
        try:
            return await answer
        except asyncio.CancelledError:
            self._given_up += 1
            raise
        finally:
            self._pending.pop(number, None)

    def tell_news(self) -> None:
        """Let the replica look into the change log at once; one of an earlier release, which cannot be told, looks later."""
        if self._takes_news and not self._ended:
            self.send(wire.NEWS)

    def connection_lost(self, exc: Exception | None) -> None:
        gone = ConnectionError("the replica went away")
        if not self._known.done():
            self._known.set_exception(gone)
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(gone)
        self._end()

    def on_frame(self, head: dict[str, Any], body: bytes) -> None:
        self._given_up = 0
        if not self._known.done():
            self._greet(head)
        elif "closing" in head:
            self._end()
        else:
            self._deliver(head["number"], wire.read_answer(head, body))
        if self._ended and not self._pending and self.transport is not None:
            self.transport.close()

    def _deliver(self, number: int, answered: ShardAnswer | ProblemError) -> None:
        waiting = self._pending.pop(number, None)
        if waiting is None or waiting.done():
            return
        if isinstance(answered, ProblemError):
            waiting.set_exception(answered)
        else:
            waiting.set_result(answered)

    def _greet(self, head: dict[str, Any]) -> None:
        """The replica's challenge is answered; then it has to answer ours."""
        if self._challenge is None:
            self._challenge = bytes.fromhex(head["nonce"])
            self._takes_news = bool(head.get("takes_news"))
            shown = self._proof("gateway", self._challenge)
            self.send(frame({"nonce": self._nonce.hex(), "proof": shown.hex()}))
            return
        if not hmac.compare_digest(bytes.fromhex(head["proof"]), self._proof("shard", self._challenge)):
            raise BrokenStreamError("wrong proof")
        self.trusted = True
        self._known.set_result(None)

    def _proof(self, role: Literal["gateway", "shard"], shards_nonce: bytes) -> bytes:
        return wire.proof(self._key, role, self._place, self._address, (self._nonce, shards_nonce))

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)
