"""A gateway's state: its indexes, the catalog and who may use them."""

import hashlib
from dataclasses import dataclass

from starlette.requests import Request

from visualindex.catalog import Catalog
from visualindex.catalog import SearchLog as SearchLogRow
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.access import OPEN, Authenticator, Grant, Scope, presented_key
from visualindex_serving.index_service import IndexService
from visualindex_serving.ingest import RequestKey
from visualindex_serving.metrics import Metrics
from visualindex_serving.search_log import SearchLog, pseudonym

_MAX_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    indexes: dict[str, IndexService]
    catalog: Catalog
    authenticator: Authenticator
    search_log: SearchLog[SearchLogRow]
    metrics: Metrics
    secret: bytes

    def pseudonym(self, user_id: str) -> str:
        """The name under which a user appears in the search log."""
        return pseudonym(user_id, self.secret)

    async def authorize(
        self, request: Request, scope: Scope, index: str | None
    ) -> tuple[IndexService, Grant]:
        """The index a request means and what the caller may do with it.

        Raises ProblemError UNAUTHENTICATED, FORBIDDEN, INDEX_NOT_FOUND, or INVALID_REQUEST when the request leaves
        the index out and several are possible.
        """
        grant = await self.authenticator.grant(request)
        service = self._index(index, grant)
        if grant is None:
            if not service.open_access:
                raise ProblemError(
                    ProblemType.UNAUTHENTICATED,
                    "Send an API key as `Authorization: Bearer vi_…`; `visualindex keys create` makes one.",
                )
            return service, OPEN
        if not grant.allows(scope) or not grant.covers(service.name):
            raise ProblemError(
                ProblemType.FORBIDDEN, f"The API key does not grant {scope} on index {service.name}."
            )
        return service, grant

    async def authorize_any(self, request: Request) -> list[IndexService]:
        """The indexes the caller may look at."""
        grant = await self.authenticator.grant(request)
        if grant is None:
            return [s for s in self.indexes.values() if s.open_access]
        return [s for s in self.indexes.values() if grant.covers(s.name)]

    def _index(self, name: str | None, grant: Grant | None) -> IndexService:
        if name is not None:
            if name not in self.indexes:
                raise ProblemError(ProblemType.INDEX_NOT_FOUND, f"There is no index {name} in this service.")
            return self.indexes[name]
        possible = [
            s
            for s in self.indexes.values()
            if grant is None or grant.covers(s.name) or len(self.indexes) == 1
        ]
        if len(possible) != 1:
            names = ", ".join(sorted(s.name for s in possible)) or "none"
            raise ProblemError(
                ProblemType.INVALID_REQUEST, f"/index: name the index; this service has several: {names}"
            )
        return possible[0]


def request_key(request: Request, index: str, body: bytes) -> RequestKey | None:
    """The idempotency key of a write, bound to what it writes; None without the header.

    Raises ProblemError INVALID_REQUEST for a key that is too long.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _MAX_IDEMPOTENCY_KEY:
        raise ProblemError(ProblemType.INVALID_REQUEST, "Idempotency-Key must have 1 to 255 characters.")
    caller = hashlib.sha256((presented_key(request) or "").encode()).hexdigest()[:16]
    return RequestKey(f"{index}:images:{caller}", key, hashlib.sha256(body).digest())
