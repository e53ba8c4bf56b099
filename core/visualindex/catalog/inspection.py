"""A look at one index from outside the service: does the database answer, and what does it hold of the index."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from visualindex.catalog.connections import Connection, from_outside, one, rows
from visualindex.catalog.generations import State
from visualindex.catalog.index_encoders import EncoderRecord, read_encoders
from visualindex.catalog.reindex_inspection import ReindexInspected, reindexes

# While an index changes its number of shards, replicas of two layouts are there: each alone is the whole index.
_INDEX = """SELECT fingerprint, dimension,
        EXISTS (SELECT FROM images WHERE index_name = i.index_name),
        (SELECT max(layout_rows) FROM (
            SELECT sum(shard_rows)::bigint AS layout_rows FROM (
                SELECT shards, max(row_count) AS shard_rows FROM replicas
                WHERE index_name = i.index_name AND lease_until > now() AND NOT loading GROUP BY shards, shard) AS live
            GROUP BY shards) AS layouts)
    FROM indexes i WHERE index_name = %s"""
# The manifest lists every file: of it, only what was measured is read.
_GENERATIONS = """SELECT generation, state, coalesce((manifest -> 'recall') - 'shards', '{}'), created_at,
        coalesce(problem, '')
    FROM generations WHERE index_name = %s AND state NOT IN ('retired', 'gone') ORDER BY created_at DESC, generation"""
# A database that was not brought to this release yet has no checks.
_CHECKS = "SELECT to_regclass('checks') IS NOT NULL"
_ENCODERS = "SELECT to_regclass('index_encoders') IS NOT NULL"
_CHECK = "SELECT report, checked_at FROM checks WHERE index_name = %s"


@dataclass(frozen=True)
class CheckInspected:
    """The last check of an index: its report, and when it ended."""

    report: Mapping[str, Any]
    checked_at: datetime


@dataclass(frozen=True)
class GenerationInspected:
    """A generation that is there, with what was measured when it was built: `recall`, `target` and `met`."""

    generation: str
    state: State
    recall: Mapping[str, Any]
    created_at: datetime
    problem: str = ""


@dataclass(frozen=True)
class Inspection:
    """What the database says of an index. `images` is None where there are some and no live replica has counted them.

    `generations` are those that are there, the newest first.
    """

    fingerprint: str = ""
    dimension: int = 0
    images: int | None = 0
    generations: tuple[GenerationInspected, ...] = field(default=())
    check: CheckInspected | None = None
    encoders: tuple[EncoderRecord, ...] = ()
    reindex: ReindexInspected | None = None
    """The rebuild that is under way."""
    reindexed: ReindexInspected | None = None
    """The one that ended last."""


async def inspect(dsn: str, index: str, *, timeout_s: float = 5.0) -> Inspection:
    """One short connection. Raises ProblemError when the database does not answer; a database without schema is empty."""
    async with from_outside(dsn, timeout_s) as connection:
        return await _inspect(connection, index)


async def _inspect(connection: Connection, index: str) -> Inspection:
    if not (await one(connection, "SELECT to_regclass('replicas') IS NOT NULL"))[0]:
        return Inspection()
    found = await rows(connection, _INDEX, index)
    if not found:
        return Inspection()
    fingerprint, dimension, any_images, counted = found[0]
    return Inspection(
        fingerprint,
        dimension,
        (None if counted is None else int(counted)) if any_images else 0,
        tuple(GenerationInspected(*row) for row in await rows(connection, _GENERATIONS, index)),
        await _last_check(connection, index),
        await _encoders(connection, index),
        *await reindexes(connection, index),
    )


async def _encoders(connection: Connection, index: str) -> tuple[EncoderRecord, ...]:
    if not (await one(connection, _ENCODERS))[0]:
        return ()
    return tuple(await read_encoders(connection, index))


async def _last_check(connection: Connection, index: str) -> CheckInspected | None:
    if not (await one(connection, _CHECKS))[0]:
        return None
    found = await rows(connection, _CHECK, index)
    return CheckInspected(*found[0]) if found else None
