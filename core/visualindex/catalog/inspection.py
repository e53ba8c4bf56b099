"""A look at one index from outside the service: does the database answer, and what does it hold of the index."""

import asyncio
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo

from visualindex.catalog.connections import Connection, one, problem_of, rows

_INDEX = """SELECT fingerprint, dimension,
        EXISTS (SELECT FROM images WHERE index_name = i.index_name),
        (SELECT sum(shard_rows)::bigint FROM (
            SELECT max(row_count) AS shard_rows FROM replicas
            WHERE index_name = i.index_name AND lease_until > now() AND NOT loading GROUP BY shard) AS live)
    FROM indexes i WHERE index_name = %s"""


@dataclass(frozen=True)
class Inspection:
    """What the database says of an index. `images` is None where there are some and no live replica has counted them."""

    fingerprint: str = ""
    dimension: int = 0
    images: int | None = 0


async def inspect(dsn: str, index: str, *, timeout_s: float = 5.0) -> Inspection:
    """One short connection. Raises ProblemError when the database does not answer; a database without schema is empty."""
    try:
        async with asyncio.timeout(timeout_s):
            # Not by a pool: it would hide behind a timeout of its own why the server refused.
            connection = await psycopg.AsyncConnection.connect(
                make_conninfo(dsn, application_name="visualindex-operator", connect_timeout=int(timeout_s)),
                autocommit=True,
                prepare_threshold=None,
            )
            async with connection:
                return await _inspect(connection, index)
    except (psycopg.Error, TimeoutError) as error:
        raise problem_of(error) from error


async def _inspect(connection: Connection, index: str) -> Inspection:
    if not (await one(connection, "SELECT to_regclass('replicas') IS NOT NULL"))[0]:
        return Inspection()
    found = await rows(connection, _INDEX, index)
    if not found:
        return Inspection()
    fingerprint, dimension, any_images, counted = found[0]
    return Inspection(
        fingerprint, dimension, (None if counted is None else int(counted)) if any_images else 0
    )
