"""Answers kept under the caller's idempotency key, so that a repeated request writes once and hears the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from psycopg import errors as pg
from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run
from visualindex.errors import ProblemError, ProblemType

W = TypeVar("W")
Response = dict[str, Any]
_WAIT_MS = 2_000  # for a request with the same key that is still running


@dataclass(frozen=True)
class Idempotency(Generic[W]):
    """One keyed request. `respond` makes the answer to keep (JSON) from what was written.

    `scope` separates callers (an API key's id and the route), `request_digest` is a digest of the request's content.
    """

    scope: str
    key: str
    request_digest: bytes
    respond: Callable[[Sequence[W]], Response]


class AlreadyAnswered(Exception):  # noqa: N818 (no error: the answer of the first request)
    """The same request was answered while this one was under way: `response` is to be sent again."""

    def __init__(self, response: Response) -> None:
        super().__init__("the request was already answered")
        self.response = response


class IdempotencyKeys:
    """The kept answers."""

    connections: Connections

    async def find_idempotent(self, scope: str, key: str, request_digest: bytes) -> Response | None:
        """The kept answer, None if there is none; ProblemError IDEMPOTENCY_CONFLICT if the key had another request."""

        async def work(connection: Connection) -> Response | None:
            return await _find(connection, scope, key, request_digest)

        return await self.connections.read(work)

    async def prune_idempotency(self, keep_s: float = 86_400.0, limit: int = 10_000) -> int:
        """Deletes at most `limit` answers older than `keep_s` seconds; returns their number."""
        query = """DELETE FROM idempotency_keys WHERE (scope, key) IN (
            SELECT scope, key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => %s) LIMIT %s)"""

        async def work(transaction: Transaction) -> int:
            return await run(transaction.connection, query, keep_s, limit)

        return await self.connections.write(work)


async def claim(connection: Connection, request: Idempotency[Any]) -> None:
    """Takes the key for this transaction.

    Raises AlreadyAnswered, or ProblemError IDEMPOTENCY_CONFLICT / IDEMPOTENCY_IN_PROGRESS.
    """
    await run(connection, "SELECT set_config('lock_timeout', %s, true)", f"{_WAIT_MS}ms")
    try:
        taken = await run(
            connection,
            """INSERT INTO idempotency_keys (scope, key, request_digest) VALUES (%s, %s, %s)
               ON CONFLICT (scope, key) DO NOTHING""",
            *(request.scope, request.key, request.request_digest),
        )
    except pg.LockNotAvailable as error:
        detail = f"another request with idempotency key {request.key!r} is still running: try again shortly"
        raise ProblemError(ProblemType.IDEMPOTENCY_IN_PROGRESS, detail, retry_after_s=1.0) from error
    await run(connection, "SELECT set_config('lock_timeout', '0', true)")
    if not taken:
        response = await _find(connection, request.scope, request.key, request.request_digest)
        raise AlreadyAnswered(response or {})


async def keep(connection: Connection, request: Idempotency[W], written: Sequence[W]) -> None:
    """Stores the answer with the write it belongs to."""
    await run(
        connection,
        "UPDATE idempotency_keys SET response = %s WHERE scope = %s AND key = %s",
        *(Jsonb(request.respond(written)), request.scope, request.key),
    )


async def _find(connection: Connection, scope: str, key: str, request_digest: bytes) -> Response | None:
    found = await rows(
        connection,
        "SELECT request_digest, response FROM idempotency_keys WHERE scope = %s AND key = %s",
        scope,
        key,
    )
    if not found:
        return None
    digest, response = found[0]
    if digest != request_digest:
        detail = f"idempotency key {key!r} was used for a request with other content: use a new key for a new request"
        raise ProblemError(ProblemType.IDEMPOTENCY_CONFLICT, detail)
    answer: Response = response
    return answer
