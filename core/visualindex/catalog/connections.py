"""The way to Postgres: a small pool that heals, a deadline on every call, and problems instead of driver errors.

Nothing here leaves state in a session (no prepared statements, no session settings or locks), so a pooler that hands out
connections per transaction, like PgBouncer, may stand in between.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import orjson
import psycopg
from psycopg import errors as pg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from visualindex.errors import ProblemError, ProblemType

T = TypeVar("T")
Connection = psycopg.AsyncConnection[TupleRow]
Read = Callable[[Connection], Awaitable[T]]

RETRY_AFTER_S = 2.0
_FULL_RETRY_AFTER_S = 30.0
_CONNECT_TIMEOUT_S = 5
_RECONNECT_S = 1.0  # the pool gives up soon, and the next caller makes it try again at once
_SHARE_FOR_CONNECTING = 0.8  # of a deadline: "unavailable" is a better answer than "too late"
_WRITE_ATTEMPTS = 3
_ends_at: ContextVar[float | None] = ContextVar("catalog_deadline", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Gives every catalog call inside the block one common deadline, `seconds` from now."""
    before = _ends_at.get()
    ends = time.monotonic() + seconds
    mark = _ends_at.set(ends if before is None else min(before, ends))
    try:
        yield
    finally:
        _ends_at.reset(mark)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A running write: its connection and the epoch of the log it writes to."""

    connection: Connection
    epoch: int


class Connections:
    """A pool of at most `max_connections`. Raises ProblemError for whatever a caller may meet."""

    def __init__(self, pool: AsyncConnectionPool[Connection], timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        max_connections: int = 4,
        application_name: str = "visualindex",
        timeout_s: float = 20.0,
    ) -> Self:
        """Opens the pool; it connects when first used. `timeout_s` bounds every call that has no shorter deadline."""
        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            make_conninfo(dsn, application_name=application_name, connect_timeout=_CONNECT_TIMEOUT_S),
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=0,
            max_size=max_connections,
            timeout=_CONNECT_TIMEOUT_S,
            reconnect_timeout=_RECONNECT_S,
            configure=_read_json,
            open=False,
        )
        await pool.open()
        return cls(pool, timeout_s)

    async def close(self) -> None:
        """Closes every connection."""
        await self._pool.close()

    async def read(self, work: Read[T]) -> T:
        """Runs `work`, which only reads, on a connection; once more if the connection turned out to be broken."""
        with _as_problems():
            async with asyncio.timeout(self._remaining_s()):
                return await self._healing(work, attempts=2)

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work` in a transaction and commits it; again, a few times, if the database broke a deadlock with it."""
        with _as_problems():
            async with asyncio.timeout(self._remaining_s()):
                return await self._write(work)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A read-only transaction whose statements all see one state. Not bound by the deadline: it streams."""
        with _as_problems():
            connection = await self._healing(_checked, attempts=2, keep=True)
            try:
                async with connection.transaction():
                    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    yield connection
            finally:
                await self._pool.putconn(connection)

    @contextlib.asynccontextmanager
    async def exclusive(self, lock: int) -> AsyncIterator[Connection]:
        """A transaction that runs alone among all that name the same `lock`. Not bound by the deadline."""
        with _as_problems():
            connection = await self._healing(_checked, attempts=2, keep=True)
            try:
                async with connection.transaction():
                    await run(connection, "SELECT pg_advisory_xact_lock(%s)", lock)
                    yield connection
            finally:
                await self._pool.putconn(connection)

    def _remaining_s(self) -> float:
        ends = _ends_at.get()
        return self._timeout_s if ends is None else min(self._timeout_s, ends - time.monotonic())

    def _patience_s(self) -> float:
        return max(0.0, min(_CONNECT_TIMEOUT_S, self._remaining_s() * _SHARE_FOR_CONNECTING))

    async def _healing(self, work: Read[T], *, attempts: int, keep: bool = False) -> T:
        while True:
            attempts -= 1
            connection = await self._pool.getconn(self._patience_s())
            kept = False
            try:
                result = await work(connection)
                kept = keep
                return result
            except psycopg.OperationalError:
                if not connection.broken or not attempts:
                    raise
            finally:
                if not kept:
                    await self._pool.putconn(connection)
            await self._pool.check()

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            connection = await self._healing(_checked, attempts=2, keep=True)
            try:
                async with connection.transaction():
                    return await work(Transaction(connection, await self._begin(connection)))
            except (pg.DeadlockDetected, pg.SerializationFailure):
                if attempt == _WRITE_ATTEMPTS:
                    raise
            finally:
                await self._pool.putconn(connection)
        raise AssertionError("unreachable")

    async def _begin(self, connection: Connection) -> int:
        milliseconds = max(1, int(self._remaining_s() * 1000))
        row = await one(
            connection,
            """SELECT set_config('statement_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true),
                (SELECT value FROM meta WHERE key = 'epoch')""",
            *(str(milliseconds), str(milliseconds)),
        )
        return int(row[2])


async def one(connection: Connection, query: str, *parameters: Any) -> TupleRow:
    """The only row of `query`, in binary."""
    cursor = await connection.cursor(binary=True).execute(query.encode(), parameters or None)
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"no row from: {query}")
    return row


async def rows(connection: Connection, query: str, *parameters: Any) -> list[TupleRow]:
    """All rows of `query`, in binary."""
    cursor = await connection.cursor(binary=True).execute(query.encode(), parameters or None)
    return await cursor.fetchall()


async def run(connection: Connection, query: str, *parameters: Any) -> int:
    """Executes `query` and returns the number of rows it touched."""
    return (await connection.execute(query.encode(), parameters or None)).rowcount


async def _read_json(connection: Connection) -> None:
    """JSON is read as requests are: a number beyond 64 bits is a float, not an integer that no answer can hold."""
    set_json_loads(orjson.loads, connection)


async def _checked(connection: Connection) -> Connection:
    await AsyncConnectionPool.check_connection(connection)
    return connection


@contextlib.contextmanager
def _as_problems() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, TimeoutError, PoolClosed) as error:
        raise problem_of(error) from error


@contextlib.asynccontextmanager
async def from_outside(dsn: str, timeout_s: float) -> AsyncIterator[Connection]:
    """One short connection of who looks after an index from outside the service. Raises ProblemError for what it meets.

    Not by a pool: it would hide behind a timeout of its own why the server refused.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection = await psycopg.AsyncConnection.connect(
                make_conninfo(dsn, application_name="visualindex-operator", connect_timeout=int(timeout_s)),
                autocommit=True,
                prepare_threshold=None,
            )
            async with connection:
                yield connection
    except (psycopg.Error, TimeoutError) as error:
        raise problem_of(error) from error


def problem_of(error: Exception) -> ProblemError:
    """The problem a caller meets when the driver raised `error`."""
    if isinstance(error, pg.DiskFull):
        detail = "the metadata database has no space left: grow its volume or delete images"
        return ProblemError(ProblemType.STORAGE_FULL, detail, retry_after_s=_FULL_RETRY_AFTER_S)
    if isinstance(error, (pg.QueryCanceled, pg.LockNotAvailable)) or (
        isinstance(error, TimeoutError) and not isinstance(error, psycopg.Error)
    ):
        detail = "the metadata database did not answer before the deadline: try again, or allow more time"
        return ProblemError(ProblemType.DEADLINE_EXCEEDED, detail)
    if isinstance(error, (PoolTimeout, PoolClosed)) or _is_outage(error):
        detail = f"the metadata database is not available ({_first_line(error)}): try again shortly"
        return ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=RETRY_AFTER_S)
    if isinstance(error, psycopg.DataError):
        detail = f"a value cannot be stored ({_first_line(error)}): text must be free of NUL characters and numbers in range"
        return ProblemError(ProblemType.INVALID_REQUEST, detail)
    return ProblemError(
        ProblemType.INTERNAL, f"the metadata database refused a statement: {_first_line(error)}"
    )


def _is_outage(error: Exception) -> bool:
    outages = (
        pg.DeadlockDetected,
        pg.SerializationFailure,
        pg.ReadOnlySqlTransaction,
        psycopg.InterfaceError,
    )
    return isinstance(error, (psycopg.OperationalError, *outages))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
