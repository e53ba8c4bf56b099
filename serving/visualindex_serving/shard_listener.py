"""The port of a shard replica: gateways that prove who they are send queries, many at a time, and get answers."""

import asyncio
import hmac
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import shard_wire as wire
from visualindex_serving.frames import BrokenStreamError, FrameProtocol, frame
from visualindex_serving.messages import ShardAnswer, ShardQuery

logger = logging.getLogger(__name__)

Search = Callable[[ShardQuery], Awaitable[ShardAnswer]]
News = Callable[[], None]
"""Called when a gateway has written something that shards may want to see."""

IN_FLIGHT = 4096
"""Queries of one gateway at once, far more than one admits."""

STRANGERS = 64
"""Connections at once that have not proven who they are."""

_STRANGER_S = 5.0
_DRAIN_S = 5.0
_WARN_AGAIN_S = 60.0


class ShardListener:
    """Serves `search` over what is in `place` on a TCP port to whoever knows `key`, and passes `news` on.

    A connection that has not proven to within `stranger_s` seconds is ended.
    """

    def __init__(
        self,
        search: Search,
        place: wire.Place,
        key: bytes,
        *,
        news: News = lambda: None,
        stranger_s: float = _STRANGER_S,
    ) -> None:
        self.search = search
        self.news = news
        self.place = place
        self.key = key
        self.stranger_s = stranger_s
        self.address = ""
        self.sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None
        self._warned_at = -math.inf

    async def start(self, host: str) -> str:
        """Listen on a free port of `host`; answers `host:port`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self), host, 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self.address

    @property
    def serving(self) -> bool:
        """Whether it still accepts gateways."""
        return self._server is not None and self._server.is_serving()

    def warn_of_stranger(self, why: str) -> None:
        """Log it, once a minute at most: strangers must not fill the log."""
        now = time.monotonic()
        if now - self._warned_at > _WARN_AGAIN_S:
            self._warned_at = now
            logger.warning("a connection to this shard's port is refused: %s", why)

    async def close(self) -> None:
        """Tell gateways to ask elsewhere, finish what they have asked (for a few seconds), and stop."""
        if self._server is not None:
            self._server.close()
        for session in self.sessions:
            session.say_closing()
        running = [task for session in self.sessions for task in session.tasks]
        if running:
            await asyncio.wait(running, timeout=_DRAIN_S)
        for session in list(self.sessions):
            session.end()


class _Session(FrameProtocol):
    """One gateway's connection."""

    def __init__(self, listener: ShardListener) -> None:
        super().__init__()
        self.tasks: set[asyncio.Task[None]] = set()
        self._listener = listener
        self._nonce = secrets.token_bytes(32)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        listener = self._listener
        self._deadline = asyncio.get_running_loop().call_later(listener.stranger_s, self.abort)
        listener.sessions.add(self)
        if sum(not session.trusted for session in listener.sessions) > STRANGERS:
            listener.warn_of_stranger(f"{STRANGERS} others have not shown who they are")
            self.abort()
        self.send(frame({"nonce": self._nonce.hex(), "takes_news": True}))

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._listener.sessions.discard(self)
        for task in self.tasks:
            task.cancel()

    def on_frame(self, head: dict[str, Any], body: bytes) -> None:
        if not self.trusted:
            self._admit(bytes.fromhex(head["nonce"]), bytes.fromhex(head["proof"]))
        elif "news" in head:
            self._listener.news()
        else:
            self._ask(head["number"], wire.read_query(head, body))

    def say_closing(self) -> None:
        """Ask the gateway to send nothing more."""
        self.send(frame({"closing": True}))

    def end(self) -> None:
        """Close once everything written has left."""
        if self.transport is not None:
            self.transport.close()

    def _admit(self, nonce: bytes, shown: bytes) -> None:
        if not hmac.compare_digest(shown, self._proof("gateway", nonce)):
            self._listener.warn_of_stranger("it does not know the service's key, or means another shard")
            raise BrokenStreamError("wrong proof")
        self.trusted = True
        self._deadline.cancel()
        self.send(frame({"proof": self._proof("shard", nonce).hex()}))

    def _proof(self, role: Literal["gateway", "shard"], gateways_nonce: bytes) -> bytes:
        by = self._listener
        return wire.proof(by.key, role, by.place, by.address, (gateways_nonce, self._nonce))

    def _ask(self, number: int, query: ShardQuery) -> None:
        if len(self.tasks) >= IN_FLIGHT:
            detail = f"This shard works on {IN_FLIGHT} queries of this gateway already; try again."
            self.send(
                wire.problem_frame(number, ProblemError(ProblemType.OVERLOADED, detail, retry_after_s=1))
            )
            return
        task = asyncio.get_running_loop().create_task(self._answer(number, query))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, number: int, query: ShardQuery) -> None:
        try:
            answered = wire.answer_frame(number, await self._listener.search(query))
        except ProblemError as problem:
            answered = wire.problem_frame(number, problem)
        except Exception:
            logger.exception("a search failed in this shard")
            detail = "The shard failed to search; its log says why."
            answered = wire.problem_frame(number, ProblemError(ProblemType.INTERNAL, detail))
        self.send(answered)
