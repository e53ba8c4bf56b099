"""The revisions of the schema, and the stamp that tells one history of the database from another.

A revision must leave the schema usable by the release before it, because both run during an upgrade.
"""

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from psycopg.rows import TupleRow

from visualindex.catalog.connections import Connection, Connections, one, rows, run
from visualindex.errors import ProblemError, ProblemType

_LOCK = 0x76_69_73_75  # any constant: it only has to differ from the locks of erasures
_HISTORY = """(SELECT system_identifier FROM pg_control_system())
    || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' || 'changes'::regclass::oid"""
IS_RESTORED = f"(SELECT value FROM meta WHERE key = 'history') IS DISTINCT FROM {_HISTORY}"  # noqa: S608 (constants)
"""True where the database is not the one that its transaction ids come from: another server, timeline or table."""


@dataclass(frozen=True)
class Revision:
    """One step of the schema. A release that knows only `min_reader` and below can still work with it."""

    number: int
    name: str
    sql: str
    min_reader: int

    @property
    def digest(self) -> bytes:
        """The 32-byte SHA-256 of the SQL."""
        return hashlib.sha256(self.sql.encode()).digest()


def revisions() -> list[Revision]:
    """The revisions of this release, in order."""
    folder = resources.files("visualindex.catalog") / "migrations"
    texts = {entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".sql")}
    return [_revision(name, texts[name]) for name in sorted(texts)]


def _revision(name: str, sql: str) -> Revision:
    number = int(name.split("_")[0])
    stated = re.search(r"^-- min_reader: (\d+)$", sql, re.MULTILINE)
    return Revision(number, name, sql, int(stated[1]) if stated else number)


async def migrate(dsn: str, *, up_to: int | None = None) -> list[str]:
    """Brings the schema to this release's revision (or to `up_to`) and stamps a restored database.

    Safe to run from several places at once. Returns the names of the revisions it applied. Raises ProblemError UNAVAILABLE
    when the schema is newer than this release can work with.
    """
    connections = await Connections.open(
        dsn, max_connections=1, application_name="visualindex-migrate", timeout_s=600
    )
    try:
        async with connections.exclusive(_LOCK) as connection:
            applied = await _apply(connection, up_to)
            await _stamp(connection)
        return applied
    finally:
        await connections.close()


async def check_revision(dsn: str) -> None:
    """Raises ProblemError UNAVAILABLE when the database is older or newer than this release can work with."""
    connections = await Connections.open(dsn, max_connections=1)
    try:
        await connections.read(check_connection)
    finally:
        await connections.close()


async def has_schema(dsn: str) -> bool:
    """Whether a release of ours was ever at work in this database."""

    async def work(connection: Connection) -> bool:
        return bool(await _recorded(connection))

    connections = await Connections.open(dsn, max_connections=1)
    try:
        return await connections.read(work)
    finally:
        await connections.close()


async def check_connection(connection: Connection) -> None:
    """`check_revision` on an open connection."""
    problem = _misfit(await _recorded(connection), revisions())
    if problem:
        raise ProblemError(ProblemType.UNAVAILABLE, problem)


async def stamp_if_restored(connections: Connections) -> bool:
    """Begins a new epoch of the change log if the database was restored; tells whether it did."""
    async with connections.exclusive(_LOCK) as connection:
        return await _stamp(connection)


async def _apply(connection: Connection, up_to: int | None) -> list[str]:
    await run(
        connection,
        """CREATE TABLE IF NOT EXISTS schema_revisions (
            revision int PRIMARY KEY, name text NOT NULL, digest bytea NOT NULL, min_reader int NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now())""",
    )
    known = revisions()
    recorded = await _recorded(connection)
    _refuse_edited(recorded, known)
    _refuse_newer(recorded, known)
    present = {number for number, *_ in recorded}
    missing = [revision for revision in known if revision.number not in present]
    wanted = [revision for revision in missing if up_to is None or revision.number <= up_to]
    for revision in wanted:
        await run(connection, revision.sql)
        await run(
            connection,
            "INSERT INTO schema_revisions (revision, name, digest, min_reader) VALUES (%s, %s, %s, %s)",
            *(revision.number, revision.name, revision.digest, revision.min_reader),
        )
    return [revision.name for revision in wanted]


async def _recorded(connection: Connection) -> list[TupleRow]:
    exists = await one(connection, "SELECT to_regclass('schema_revisions') IS NOT NULL")
    if not exists[0]:
        return []
    return await rows(
        connection, "SELECT revision, digest, min_reader FROM schema_revisions ORDER BY revision"
    )


def _refuse_edited(recorded: Iterable[TupleRow], known: list[Revision]) -> None:
    digests = {revision.number: revision.digest for revision in known}
    for number, digest, _ in recorded:
        if digests.get(number, digest) != digest:
            detail = f"schema revision {number} in the database differs from this release's: it was edited after release"
            raise ProblemError(ProblemType.UNAVAILABLE, detail)


def _refuse_newer(recorded: list[TupleRow], known: list[Revision]) -> None:
    problem = _too_new(recorded, known[-1].number)
    if problem:
        raise ProblemError(ProblemType.UNAVAILABLE, problem)


def _misfit(recorded: list[TupleRow], known: list[Revision]) -> str | None:
    latest = known[-1].number
    at = _reached(recorded)
    if at < latest:
        return (
            f"the database is at schema revision {at}, this release needs {latest}: "
            "run `visualindex database migrate`"
        )
    return _too_new(recorded, latest)


def _too_new(recorded: list[TupleRow], latest: int) -> str | None:
    needed = max((reader for number, _, reader in recorded if number > latest), default=0)
    if needed > latest:
        return (
            f"the database is at schema revision {_reached(recorded)}, which needs a release that knows revision {needed}; "
            f"this one knows {latest}: run a newer release"
        )
    return None


def _reached(recorded: list[TupleRow]) -> int:
    return max((number for number, *_ in recorded), default=0)


async def _stamp(connection: Connection) -> bool:
    restored = await one(connection, f"SELECT {IS_RESTORED}")
    if not restored[0]:
        return False
    await _begin_epoch(connection)
    await run(connection, "UPDATE changes SET xid = pg_current_xact_id()")
    await run(connection, "UPDATE indexes SET trimmed_through = NULL")
    await run(connection, "DELETE FROM replicas")
    # A generation's old watermark means nothing now: one that saw no retained change replays them all.
    await run(
        connection,
        "UPDATE generations SET watermark = format('%1$s:%1$s:', pg_current_xact_id())::pg_snapshot",
    )
    return True


async def _begin_epoch(connection: Connection) -> None:
    before = await rows(connection, "SELECT value FROM meta WHERE key = 'epoch'")
    epoch = max([time.time_ns() // 1_000_000, *(int(value) + 1 for (value,) in before)])
    await run(
        connection,
        f"""INSERT INTO meta (key, value) VALUES ('epoch', %s), ('history', {_HISTORY})
            ON CONFLICT (key) DO UPDATE SET value = excluded.value""",  # noqa: S608 (a constant)
        str(epoch),
    )
