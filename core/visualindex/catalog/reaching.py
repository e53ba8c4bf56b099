"""Whether a database can be reached, and what helps when not: waiting, or another connection string.

The pool of `connections` cannot tell, for it hides why a connection failed.
"""

import asyncio

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from tenacity import AsyncRetrying, retry_if_exception_type, stop_before_delay, wait_exponential

from visualindex.errors import ProblemError, ProblemType

_CONNECT_TIMEOUT_S = 5
_LONGEST_REASON = 300


class _NotAnsweringError(Exception):
    """No server answers, or one that is starting or stopping."""


async def reach(dsn: str, *, wait_s: float = 0.0) -> None:
    """Returns when the database takes connections; waits up to `wait_s` seconds while nobody answers or the server starts.

    ProblemError UNAVAILABLE after that, and at once when waiting is no help: credentials, database name, or a connection
    string that cannot be read.
    """
    conninfo = _readable(dsn)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(_NotAnsweringError),
        stop=stop_before_delay(wait_s),
        wait=wait_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    )
    try:
        await retrying(_attempt, conninfo)
    except _NotAnsweringError as error:
        waited = f" within {wait_s:g} s" if wait_s else ""
        detail = f"the database does not answer{waited} ({error}): check that it runs and the host and port"
        raise ProblemError(ProblemType.UNAVAILABLE, detail) from error


async def _attempt(conninfo: str) -> None:
    reason = await _refusal(conninfo)
    if reason and not await _answers(conninfo):
        raise _NotAnsweringError(reason)
    if reason and (reason := await _refusal(conninfo)):  # it may have come up between the two questions
        detail = f"the database refuses us ({reason}): check user, password and database name"
        raise ProblemError(ProblemType.UNAVAILABLE, detail)


async def _refusal(conninfo: str) -> str | None:
    try:
        await (await psycopg.AsyncConnection.connect(conninfo)).close()
    except psycopg.OperationalError as error:
        return " ".join(str(error).split())[:_LONGEST_REASON]
    return None


async def _answers(conninfo: str) -> bool:
    """Whether a server is there and up, whatever it thinks of our credentials."""
    return await asyncio.to_thread(PGconn.ping, conninfo.encode()) == Ping.OK


def _readable(dsn: str) -> str:
    try:
        return make_conninfo(dsn, connect_timeout=_CONNECT_TIMEOUT_S)
    except psycopg.ProgrammingError:
        # The driver's words may quote a part of the password.
        detail = (
            "the connection string cannot be read: write postgresql://USER:PASSWORD@HOST:5432/DATABASE, "
            "with special characters of the password percent-encoded"
        )
        raise ProblemError(ProblemType.UNAVAILABLE, detail) from None
