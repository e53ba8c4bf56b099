"""The port of a shard replica: gateways that prove who they are send queries, many at a time, and get answers."""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import shard_wire as wire
from visualindex_serving.frames import MAX_BODY, MAX_HEAD, BrokenStreamError, FrameProtocol, frame
from visualindex_serving.messages import ShardAnswer, ShardQuery

logger = logging.getLogger(__name__)

Search = Callable[[ShardQuery], Awaitable[ShardAnswer]]

_IN_FLIGHT = 256  # queries of one gateway
_STRANGER_BYTES = 4096
_STRANGER_S = 5.0
_DRAIN_S = 5.0


class ShardListener:
    """Serves `search` on a TCP port to whoever knows `key`."""

    def __init__(self, search: Search, key: bytes) -> None:
        self.search = search
        self.key = key
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()

    async def start(self, host: str) -> str:
        """Listen on a free port of `host`; answers `host:port`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self, self._sessions), host, 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def serving(self) -> bool:
        """Whether it still accepts gateways."""
        return self._server is not None and self._server.is_serving()

    async def close(self) -> None:
        """Tell gateways to ask elsewhere, finish what they have asked (for a few seconds), and stop."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions:
            session.say_closing()
        running = [task for session in self._sessions for task in session.tasks]
        if running:
            await asyncio.wait(running, timeout=_DRAIN_S)
        for session in list(self._sessions):
            session.end()


class _Session(FrameProtocol):
    """One gateway's connection."""

    def __init__(self, listener: ShardListener, sessions: "set[_Session]") -> None:
        super().__init__(max_bytes=_STRANGER_BYTES)
        self.tasks: set[asyncio.Task[None]] = set()
        self._listener = listener
        self._sessions = sessions
        self._nonce = secrets.token_bytes(32)
        self._known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._sessions.add(self)
        self._deadline = asyncio.get_running_loop().call_later(_STRANGER_S, self.abort)
        self.send(frame({"version": wire.VERSION, "nonce": self._nonce.hex()}))

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._sessions.discard(self)
        for task in self.tasks:
            task.cancel()

    def on_frame(self, head: dict[str, Any], body: bytes) -> None:
        if self._known:
            self._ask(head["number"], wire.read_query(head, body))
        else:
            self._admit(bytes.fromhex(head["nonce"]), bytes.fromhex(head["proof"]))

    def say_closing(self) -> None:
        """Ask the gateway to send nothing more."""
        self.send(frame({"closing": True}))

    def end(self) -> None:
        """Close once everything written has left."""
        if self.transport is not None:
            self.transport.close()

    def _admit(self, nonce: bytes, shown: bytes) -> None:
        key = self._listener.key
        if not hmac.compare_digest(shown, wire.proof(key, "gateway", nonce, self._nonce)):
            logger.warning("a connection to this shard's port did not know the service's key")
            raise BrokenStreamError("wrong proof")
        self._known = True
        self._deadline.cancel()
        self.max_bytes = MAX_HEAD + MAX_BODY
        self.send(frame({"proof": wire.proof(key, "shard", self._nonce, nonce).hex()}))

    def _ask(self, number: int, query: ShardQuery) -> None:
        if len(self.tasks) >= _IN_FLIGHT:
            detail = f"This shard works on {_IN_FLIGHT} queries of this gateway already; try again."
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
