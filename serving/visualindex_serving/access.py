"""Who may do what: API keys, their scopes, their indexes and the filter they cannot widen."""

import asyncio
import datetime as dt
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from starlette.requests import Request

from visualindex import catalog
from visualindex.errors import ProblemError, ProblemType

Scope = Literal["search", "write", "admin"]
_FRESH_S = 4.0
_STALE_S = 300.0
_ASK_AGAIN_S = 1.0
_PATIENCE_S = 3.0
_PATIENCE_WITH_ANSWER_S = 0.5
_CACHED = 4096
_MAX_KEY_LENGTH = 256


class Key(Protocol):
    """What the catalog knows of an API key."""

    @property
    def scopes(self) -> Any: ...
    @property
    def indexes(self) -> Any: ...
    @property
    def filter(self) -> dict[str, Any] | None: ...
    @property
    def expires_at(self) -> dt.datetime | None: ...


@dataclass(frozen=True)
class Grant:
    """What a caller may do. `indexes` None means every index; `expires_at` None means never."""

    scopes: frozenset[str]
    indexes: frozenset[str] | None
    filter: dict[str, Any] | None
    expires_at: dt.datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the scope is granted; admin includes the others."""
        return scope in self.scopes or "admin" in self.scopes

    def covers(self, index: str) -> bool:
        """Whether the index is granted."""
        return self.indexes is None or index in self.indexes

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= dt.datetime.now(dt.UTC)


OPEN = Grant(frozenset({"search", "write", "admin"}), None, None)


@dataclass
class _Known:
    """What was learnt of a key, when, and when to ask again. `answered_at` is None before the first answer."""

    grant: Grant | None = None
    answered_at: float | None = None
    ask_at: float = 0.0


class Authenticator:
    """Turns request headers into grants.

    An answer of the database holds for four seconds, so that a revoked key ends within five. While the database is
    down, what was known holds for five minutes, and one request a second waits half a second to ask again.
    """

    def __init__(self, authenticate: Callable[[str], Awaitable[Key | None]]) -> None:
        self._authenticate = authenticate
        self._good: OrderedDict[str, _Known] = OrderedDict()
        self._bad: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Future[None]] = {}

    async def grant(self, request: Request) -> Grant | None:
        """The grant of the request's key, None without a key. Raises ProblemError UNAUTHENTICATED for a bad one."""
        secret = presented_key(request)
        if secret is None:
            return None
        grant = await self._look_up(secret) if len(secret) <= _MAX_KEY_LENGTH else None
        if grant is None or grant.expired:
            raise ProblemError(ProblemType.UNAUTHENTICATED, "The API key is unknown, expired or revoked.")
        return grant

    async def _look_up(self, secret: str) -> Grant | None:
        known = self._good.get(secret) or self._bad.get(secret) or _Known()
        if time.monotonic() < known.ask_at:
            return known.grant
        running = self._asking.get(secret)
        if running is None:
            return await self._ask_once(secret, known)
        await asyncio.shield(running)
        return await self._look_up(secret)

    async def _ask_once(self, secret: str, known: _Known) -> Grant | None:
        """Ask while others with the same key wait for the outcome, be it an answer or a failure."""
        done = self._asking[secret] = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(secret, known)
        except ProblemError as problem:
            done.set_exception(problem)
            done.exception()  # seen here: nobody may be waiting
            raise
        finally:
            del self._asking[secret]
            if not done.done():
                done.set_result(None)

    async def _ask(self, secret: str, known: _Known) -> Grant | None:
        patience = _PATIENCE_S if known.answered_at is None else _PATIENCE_WITH_ANSWER_S
        try:
            with catalog.within(patience):
                record = await self._authenticate(secret)
        except ProblemError:
            if known.answered_at is None or time.monotonic() - known.answered_at > _STALE_S:
                raise
            known.ask_at = time.monotonic() + _ASK_AGAIN_S
            return known.grant
        now = time.monotonic()
        fresh = _Known(None if record is None else _grant_of(record), now, now + _FRESH_S)
        self._remember(secret, fresh)
        return fresh.grant

    def _remember(self, secret: str, known: _Known) -> None:
        """Good and bad keys apart, so that guesses cannot crowd out the keys in use."""
        kept, other = (self._bad, self._good) if known.grant is None else (self._good, self._bad)
        other.pop(secret, None)
        kept[secret] = known
        kept.move_to_end(secret)
        while len(kept) > _CACHED:
            kept.popitem(last=False)


def _grant_of(record: Key) -> Grant:
    indexes = None if record.indexes is None else frozenset(record.indexes)
    return Grant(frozenset(record.scopes), indexes, record.filter, record.expires_at)


def presented_key(request: Request) -> str | None:
    """The key in `Authorization: Bearer` or `X-API-Key`."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    return request.headers.get("x-api-key")
