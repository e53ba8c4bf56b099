"""What was searched and what people did with the answers; written in bulk, off the path of requests."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run


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
    filter: Mapping[str, Any] | str | None = None
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
            took_ms, query_kind, filter, complete)
            SELECT log_id, index, query_id, user_id, image_id, search_time, matched_ids, took_ms, query_kind, filter,
                complete
            FROM json_to_recordset(%s::json) AS row(log_id uuid, index text, query_id uuid, user_id text, image_id uuid,
                search_time timestamptz, matched_ids uuid[], took_ms real, query_kind text, filter jsonb, complete boolean)
            ON CONFLICT (log_id) DO NOTHING"""
        await self._insert(query, searches)

    async def add_feedback(self, events: Sequence[Feedback]) -> None:
        """Writes the events; one that is there already (same `event_id`) is left alone."""
        query = """INSERT INTO feedback_events (event_id, index_name, query_id, image_id, kind, value, user_id, position,
            occurred_at)
            SELECT event_id, index, query_id, image_id, kind, value, user_id, position, occurred_at
            FROM json_to_recordset(%s::json) AS row(event_id uuid, index text, query_id uuid, image_id uuid, kind text,
                value real, user_id text, position int, occurred_at timestamptz)
            ON CONFLICT (event_id) DO NOTHING"""
        await self._insert(query, events)

    async def judgments(self, index: str, limit: int) -> dict[UUID, frozenset[UUID]]:
        """For at most `limit` images that were searched with, the latest first: the hits that people found relevant.

        Relevant is what was clicked, bought or called so, and was never called irrelevant for that image. A search with a
        picture that the index does not hold judges nothing that can be asked again.
        """
        query = """SELECT query_image, array_agg(image_id) FROM (
                SELECT l.image_id AS query_image, f.image_id, max(f.occurred_at) AS judged_at
                FROM feedback_events f JOIN user_search_logs l USING (query_id)
                WHERE f.index_name = %s AND l.index_name = f.index_name AND l.image_id IS NOT NULL
                    AND f.image_id <> l.image_id AND f.kind IN ('click', 'purchase', 'relevant', 'irrelevant')
                GROUP BY l.image_id, f.image_id HAVING NOT bool_or(f.kind = 'irrelevant')) AS judged
            GROUP BY query_image ORDER BY max(judged_at) DESC, query_image LIMIT %s"""

        async def work(connection: Connection) -> dict[UUID, frozenset[UUID]]:
            found = await rows(connection, query, index, limit)
            return {image: frozenset(relevant) for image, relevant in found}

        return await self.connections.read(work)

    async def prune_search_logs(self, index: str, retention_days: int, *, limit: int = 10_000) -> int:
        """Deletes at most `limit` searches and as many events of the index older than `retention_days`; returns how many."""
        searches = """DELETE FROM user_search_logs WHERE log_id IN (SELECT log_id FROM user_search_logs
            WHERE index_name = %s AND search_time < now() - make_interval(days => %s) LIMIT %s)"""
        events = """DELETE FROM feedback_events WHERE event_id IN (SELECT event_id FROM feedback_events
            WHERE index_name = %s AND occurred_at < now() - make_interval(days => %s) LIMIT %s)"""

        async def work(transaction: Transaction) -> int:
            counts = [
                await run(transaction.connection, query, index, retention_days, limit)
                for query in (searches, events)
            ]
            return sum(counts)

        return await self.connections.write(work)

    async def _insert(self, query: str, records: Sequence[SearchLog] | Sequence[Feedback]) -> None:
        """One statement with one parameter, however many rows: row by row costs the gateway more than the searches."""
        if not records:
            return
        document = orjson.dumps(list(records)).decode()

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, document)

        await self.connections.write(work)
