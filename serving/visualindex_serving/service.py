"""A gateway's state: its indexes, the catalog and who may use them."""

import difflib
from dataclasses import dataclass

from starlette.requests import Request

from visualindex.catalog import Catalog
from visualindex.catalog import SearchLog as SearchLogRow
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.access import OPEN, Authenticator, Grant, Scope
from visualindex_serving.index_service import IndexService
from visualindex_serving.metrics import Metrics
from visualindex_serving.problems import invalid
from visualindex_serving.search_log import SearchLog, pseudonym


@dataclass(frozen=True)
class Caller:
    """Who sends a request, known before its body is read: a key's grant, or nobody on indexes with open access."""

    service: "Service"
    scope: Scope
    grant: Grant | None

    def index(self, name: str | None, body_bytes: int = 0) -> tuple[IndexService, Grant]:
        """The index a request means and what the caller may do with it.

        Raises ProblemError UNAUTHENTICATED, FORBIDDEN, INDEX_NOT_FOUND, REQUEST_TOO_LARGE for a body beyond the
        index's limit, or INVALID_REQUEST when the request leaves the index out and several are possible.
        """
        index = self._named(name) if name is not None else self._only()
        limit = index.resource.spec.limits.request_bytes
        if body_bytes > limit:
            detail = f"The request body is larger than {limit} bytes (limits.requestBytes)."
            raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})
        return index, self.grant or OPEN

    def indexes(self) -> list[IndexService]:
        """The indexes the caller may use."""
        return [index for index in self.service.indexes.values() if self._may_use(index)]

    def _may_use(self, index: IndexService) -> bool:
        return index.open_access if self.grant is None else self.grant.covers(index.name)

    def _named(self, name: str) -> IndexService:
        if self.grant is not None and not self.grant.covers(name):
            raise ProblemError(ProblemType.FORBIDDEN, f"The API key does not cover index {name}.")
        index = self.service.indexes.get(name)
        if index is None:
            raise self._not_found(name)
        if not self._may_use(index):
            raise _key_needed()
        return index

    def _not_found(self, name: str) -> ProblemError:
        """Names what was probably meant, else every choice; never an index that the caller may not use."""
        usable = sorted(index.name for index in self.indexes())
        near = difflib.get_close_matches(name, usable, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"it has {', '.join(usable) or 'none for you'}."
        return ProblemError(
            ProblemType.INDEX_NOT_FOUND, f"There is no index {name} in this service: {remedy}"
        )

    def _only(self) -> IndexService:
        possible = self.indexes()
        if len(possible) == 1:
            return possible[0]
        if not possible:
            raise ProblemError(ProblemType.FORBIDDEN, "The API key covers no index of this service.")
        names = ", ".join(sorted(index.name for index in possible))
        raise invalid("/index", f"name the index; this service has several: {names}")


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

    async def caller(self, request: Request, scope: Scope) -> Caller:
        """Who sends the request, from its headers alone. Raises ProblemError UNAUTHENTICATED or FORBIDDEN."""
        grant = await self.authenticator.grant(request)
        if grant is None and not any(index.open_access for index in self.indexes.values()):
            raise _key_needed()
        if grant is not None and not grant.allows(scope):
            raise ProblemError(ProblemType.FORBIDDEN, f"The API key does not grant the scope {scope}.")
        return Caller(self, scope, grant)


def service_of(request: Request) -> Service:
    """The gateway's state, which its lifespan opened."""
    service: Service = request.app.state.service
    return service


def _key_needed() -> ProblemError:
    return ProblemError(
        ProblemType.UNAUTHENTICATED,
        "Send an API key as `Authorization: Bearer vi_…`; `visualindex keys create` makes one.",
    )
