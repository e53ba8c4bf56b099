"""Who may do what: API keys, their scopes, their indexes and the filter they cannot widen."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from starlette.requests import Request

from visualindex.errors import ProblemError, ProblemType

Scope = Literal["search", "write", "admin"]
_FRESH_S = 5.0
_STALE_S = 300.0
_CACHED = 4096


class Key(Protocol):
    """What the catalog knows of an API key."""

    @property
    def scopes(self) -> Any: ...
    @property
    def indexes(self) -> Any: ...
    @property
    def filter(self) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class Grant:
    """What a caller may do. `indexes` None means every index."""

    scopes: frozenset[str]
    indexes: frozenset[str] | None
    filter: dict[str, Any] | None

    def allows(self, scope: Scope) -> bool:
        """Whether the scope is granted; admin includes the others."""
        return scope in self.scopes or "admin" in self.scopes

    def covers(self, index: str) -> bool:
        """Whether the index is granted."""
        return self.indexes is None or index in self.indexes


OPEN = Grant(frozenset({"search", "write", "admin"}), None, None)


class Authenticator:
    """Turns request headers into grants; remembers answers for five seconds, and longer while the database is down."""

    def __init__(self, authenticate: Callable[[str], Awaitable[Key | None]]) -> None:
        self._authenticate = authenticate
        self._known: OrderedDict[str, tuple[float, Grant | None]] = OrderedDict()

    async def grant(self, request: Request) -> Grant | None:
        """The grant of the request's key, None without a key. Raises ProblemError UNAUTHENTICATED for a bad one."""
        secret = presented_key(request)
        if secret is None:
            return None
        grant = await self._look_up(secret)
        if grant is None:
            raise ProblemError(ProblemType.UNAUTHENTICATED, "The API key is unknown, expired or revoked.")
        return grant

    async def _look_up(self, secret: str) -> Grant | None:
        at, known = self._known.get(secret, (0.0, None))
        age = time.monotonic() - at
        if at and age < _FRESH_S:
            return known
        try:
            record = await self._authenticate(secret)
        except ProblemError:
            if at and age < _STALE_S:
                return known
            raise
        grant = None if record is None else _grant_of(record)
        self._remember(secret, grant)
        return grant

    def _remember(self, secret: str, grant: Grant | None) -> None:
        self._known[secret] = (time.monotonic(), grant)
        self._known.move_to_end(secret)
        while len(self._known) > _CACHED:
            self._known.popitem(last=False)


def _grant_of(record: Key) -> Grant:
    indexes = None if record.indexes is None else frozenset(record.indexes)
    return Grant(frozenset(record.scopes), indexes, record.filter)


def presented_key(request: Request) -> str | None:
    """The key in `Authorization: Bearer` or `X-API-Key`."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    return request.headers.get("x-api-key")
