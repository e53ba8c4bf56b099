"""Whoever waits for a database waits for what time can mend, and is told at once about the rest."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg.conninfo import make_conninfo

from visualindex.catalog import EmbeddedPostgres, TrialServer, reach
from visualindex.catalog.trial_server import NAME
from visualindex.errors import ProblemError

from .scene import folder

PASSWORD = "correct horse"
LONG_S = 60.0


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def stopped(port: int) -> Iterator[TrialServer]:
    """A server that takes passwords, not running yet."""
    with folder() as state:
        server = TrialServer(state, "127.0.0.1", port, PASSWORD)
        try:
            yield server
        finally:
            server.stop()


def dsn(port: int, **parts: str) -> str:
    given = {"host": "127.0.0.1", "port": str(port), "user": NAME, "password": PASSWORD, "dbname": NAME}
    return make_conninfo(**{**given, **parts})


async def test_it_waits_until_the_server_is_up(stopped: TrialServer, port: int) -> None:
    with pytest.raises(ProblemError, match=r"does not answer \(.*refused.*check that it runs"):
        await reach(dsn(port))
    waiting = asyncio.create_task(reach(dsn(port), wait_s=LONG_S))
    await asyncio.to_thread(stopped.start)
    await waiting


async def test_waiting_has_an_end(port: int) -> None:
    began = time.monotonic()
    with pytest.raises(ProblemError, match=r"does not answer within 1 s \(.*refused"):
        await reach(dsn(port), wait_s=1)
    assert time.monotonic() - began < 5


async def test_what_waiting_cannot_mend_is_said_at_once(stopped: TrialServer, port: int) -> None:
    await asyncio.to_thread(stopped.start)
    await reach(dsn(port))
    wrong = {
        "password": ("wrong", "password authentication failed"),
        "user": ("nobody", 'no pg_hba.conf entry .*user "nobody"'),
        "dbname": ("missing", 'no pg_hba.conf entry .*database "missing"'),
    }
    began = time.monotonic()
    for part, (value, says) in wrong.items():
        with pytest.raises(ProblemError, match=rf"refuses us \(.*{says}.*check user, password") as raised:
            await reach(dsn(port, **{part: value}), wait_s=LONG_S)
        assert "\n" not in raised.value.detail
        assert PASSWORD not in raised.value.detail
    assert time.monotonic() - began < LONG_S / 2


async def test_a_database_that_is_not_there_is_said_at_once(server: EmbeddedPostgres) -> None:
    with pytest.raises(ProblemError, match='database "missing" does not exist'):
        await reach(make_conninfo(server.dsn, dbname="missing"), wait_s=LONG_S)


async def test_an_unreadable_connection_string_is_not_repeated() -> None:
    with pytest.raises(ProblemError, match="cannot be read: write postgresql://") as raised:
        await reach("secret and more", wait_s=LONG_S)
    assert "secret" not in raised.value.detail
