"""What was searched and what people did with the answers; written in bulk, off the path of requests."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, run


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class SearchLog:
    """One search. `user_id` must be a pseudonym; `image_id` is the query's image if it was one of the index."""

    index: str
    query_id: UUID
    matched_ids: Sequence[UUID]
    took_ms: float
    query_kind: str
    complete: bool = True
    user_id: str | None = None
    image_id: UUID | None = None
    filter: Mapping[str, Any] | None = None
    search_time: datetime = field(default_factory=_now)
    log_id: UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True)
class Feedback:
    """One event about a hit, e.g. a click: `position` is the hit's rank, `value` a judgment's grade."""

    index: str
    query_id: UUID
    image_id: UUID
    kind: str
    value: float | None = None
    user_id: str | None = None
    position: int | None = None
    occurred_at: datetime = field(default_factory=_now)
    event_id: UUID = field(default_factory=uuid.uuid4)


class SearchLogs:
    """Writes and prunes search logs and feedback."""

    connections: Connections

    async def log_searches(self, searches: Sequence[SearchLog]) -> None:
        """Writes the rows; one that is there already (same `log_id`) is left alone."""
        query = """INSERT INTO user_search_logs (log_id, index_name, query_id, user_id, image_id, search_time, matched_ids,
            took_ms, query_kind, filter, complete) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (log_id) DO NOTHING"""
        await self._insert(query, [_search_row(search) for search in searches])

    async def add_feedback(self, events: Sequence[Feedback]) -> None:
        """Writes the events; one that is there already (same `event_id`) is left alone."""
        query = """INSERT INTO feedback_events (event_id, index_name, query_id, image_id, kind, value, user_id, position,
            occurred_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (event_id) DO NOTHING"""
        await self._insert(query, [_feedback_row(event) for event in events])

    async def prune_search_logs(self, retention_days: int, *, limit: int = 10_000) -> int:
        """Deletes at most `limit` searches and as many events older than `retention_days`; returns their number."""
        searches = """DELETE FROM user_search_logs WHERE log_id IN (SELECT log_id FROM user_search_logs
            WHERE search_time < now() - make_interval(days => %s) LIMIT %s)"""
        events = """DELETE FROM feedback_events WHERE event_id IN (SELECT event_id FROM feedback_events
            WHERE occurred_at < now() - make_interval(days => %s) LIMIT %s)"""

        async def work(transaction: Transaction) -> int:
            counts = [
                await run(transaction.connection, query, retention_days, limit)
                for query in (searches, events)
            ]
            return sum(counts)

        return await self.connections.write(work)

    async def _insert(self, query: str, values: list[tuple[Any, ...]]) -> None:
        async def work(transaction: Transaction) -> None:
            await _insert_many(transaction.connection, query, values)

        if values:
            await self.connections.write(work)


async def _insert_many(connection: Connection, query: str, values: list[tuple[Any, ...]]) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(query.encode(), values)


def _search_row(search: SearchLog) -> tuple[Any, ...]:
    return (
        *(search.log_id, search.index, search.query_id, search.user_id, search.image_id, search.search_time),
        *(list(search.matched_ids), search.took_ms, search.query_kind),
        *(None if search.filter is None else Jsonb(dict(search.filter)), search.complete),
    )


def _feedback_row(event: Feedback) -> tuple[Any, ...]:
    return (
        *(
            event.event_id,
            event.index,
            event.query_id,
            event.image_id,
            event.kind,
            event.value,
            event.user_id,
        ),
        *(event.position, event.occurred_at),
    )
