"""Erasing an index from the database, in batches: no transaction is long, and an interrupted run goes on when repeated.

The row of the index goes last: as long as it is there, there is something left to erase.
"""

from collections.abc import Callable
from dataclasses import dataclass

from visualindex.catalog.connections import Connection, Connections, Transaction, one, run

_COUNTED = 100_000  # what is left is counted this far: it is read by a person, and counting all takes long


@dataclass(frozen=True)
class _Part:
    """Rows of one table: those that meet `condition`, which names the index as its only parameter."""

    name: str
    table: str
    condition: str = "index_name = %s"
    batch: int = 1_000


# Embeddings go with their images. A key that opens other indexes too stays as it is.
_PARTS = (
    _Part("replicas", "replicas"),
    _Part("generations", "generations"),
    _Part("encoders", "index_encoders"),
    _Part("gateways", "gateways"),
    _Part("jobs", "jobs"),
    _Part("changes", "changes", batch=10_000),
    _Part("images", "images"),
    _Part("erasures", "erasures", batch=10_000),
    _Part("questions to replicas", "replica_questions"),
    _Part("checks", "checks"),
    _Part("missing originals", "missing_originals", batch=10_000),
    _Part("schedules", "schedules"),
    _Part("runs of schedules", "schedule_runs"),
    _Part("idempotency keys", "idempotency_keys", "starts_with(scope, %s::text || ':')", batch=10_000),
    _Part("searches", "user_search_logs", batch=10_000),
    _Part("feedback events", "feedback_events", batch=10_000),
    _Part("API keys", "api_keys", "indexes = ARRAY[%s::text]"),
    _Part("indexes", "indexes"),
)


@dataclass(frozen=True)
class ErasedRows:
    """How many rows went, by part. `finished` is False when time ran out first."""

    rows: dict[str, int]
    finished: bool


class IndexErasure:
    """Deletes whole indexes. The objects in the store are another's business, and go first."""

    connections: Connections

    async def count_leases(self, index: str) -> int:
        """How many replicas hold a live lease, those that are loading too."""
        query = "SELECT count(*) FROM replicas WHERE index_name = %s AND lease_until > now()"

        async def work(connection: Connection) -> int:
            return int((await one(connection, query, index))[0])

        return await self.connections.read(work)

    async def erase_index(self, index: str, *, in_time: Callable[[], bool]) -> ErasedRows:
        """Deletes every row of the index, a batch a transaction, as long as `in_time` says so."""
        erased = {part.name: 0 for part in _PARTS}
        for part in _PARTS:
            while in_time():
                count = await self._erase_batch(index, part)
                erased[part.name] += count
                if count < part.batch:
                    break
            else:
                return ErasedRows(erased, finished=False)
        return ErasedRows(erased, finished=True)

    async def count_rows(self, index: str) -> dict[str, int]:
        """What the index still has, by part; parts without rows are left out, none is counted beyond 100,000."""

        async def work(connection: Connection) -> dict[str, int]:
            counts = {part.name: await _count(connection, index, part) for part in _PARTS}
            return {name: count for name, count in counts.items() if count}

        return await self.connections.read(work)

    async def _erase_batch(self, index: str, part: _Part) -> int:
        query = f"""DELETE FROM {part.table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {part.table} WHERE {part.condition} LIMIT {part.batch}))"""  # noqa: S608 (constants)

        async def work(transaction: Transaction) -> int:
            return await run(transaction.connection, query, index)

        return await self.connections.write(work)


async def _count(connection: Connection, index: str, part: _Part) -> int:
    query = f"""SELECT count(*) FROM
        (SELECT FROM {part.table} WHERE {part.condition} LIMIT {_COUNTED}) AS counted"""  # noqa: S608 (constants)
    return int((await one(connection, query, index))[0])
