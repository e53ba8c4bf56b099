"""The server for trials lets one user in by password, keeps its data, and takes nobody else."""

import os
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from visualindex.catalog import Catalog, EmbeddedPostgres, Listening, TrialServer, migrate
from visualindex.catalog.trial_server import NAME
from visualindex.errors import ProblemError

from .scene import FINGERPRINT, folder

PASSWORD = "it's \\ a 'password' ü"
NAMELESS = 65532


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(state: Path, port: int, password: str = PASSWORD) -> Iterator[str]:
    """Yields the connection string by which others come in."""
    server = TrialServer(state, "127.0.0.1", port, password)
    try:
        server.start()
        yield make_conninfo(host="127.0.0.1", port=str(port), user=NAME, password=password, dbname=NAME)
    finally:
        server.stop()


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


async def test_a_catalog_lives_in_it(tmp_path: Path) -> None:
    with folder() as state, running(state, free_port()) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)
        await catalog.ensure_index("shop", FINGERPRINT, 8)
        assert [index.name for index in await catalog.list_indexes()] == ["shop"]
        await catalog.close()
        assert ask(dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_data_stays_and_a_new_password_holds_from_the_next_start_on() -> None:
    with folder() as state:
        port = free_port()
        with running(state, port) as before:
            ask(before, "CREATE TABLE t AS SELECT 7 AS n")
        with running(state, port, "another") as dsn:
            assert ask(dsn, "SELECT n FROM t") == 7
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                ask(before, "SELECT 1")


def test_only_the_one_user_and_only_its_database_are_open_by_network() -> None:
    with folder() as state, running(state, free_port()) as dsn:
        for other in (
            {"password": "wrong"},
            {"password": ""},
            {"user": "postgres"},
            {"dbname": "postgres"},
            {"dbname": "template1"},
        ):
            with pytest.raises(psycopg.OperationalError):
                ask(make_conninfo(dsn, **other), "SELECT 1")


def test_passwords_are_stored_by_scram_and_never_logged() -> None:
    with folder() as state:
        port = free_port()
        with running(state, port):
            own = EmbeddedPostgres(state, listening=Listening("127.0.0.1", port, NAME, NAME))
            stored = ask(own.dsn, f"SELECT rolpassword FROM pg_authid WHERE rolname = '{NAME}'")
            assert str(stored).startswith("SCRAM-SHA-256$")
        assert PASSWORD not in (state / "postgres.log").read_text()


def test_a_server_that_ends_by_itself_is_noticed() -> None:
    with folder() as state:
        server = TrialServer(state, "127.0.0.1", free_port(), PASSWORD)
        server.start()
        pid = EmbeddedPostgres(state).pid
        assert pid is not None
        process = psutil.Process(pid)
        process.kill()
        process.wait(30)
        with pytest.raises(ProblemError, match=r"Postgres ended by itself: its log is .*postgres\.log"):
            server.run(lambda _: False)


def _as_user(user: int, work: Callable[[], None]) -> int:
    """The exit code of a process of that user that does the work."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_runs_as_a_user_that_is_not_root_in_a_folder_of_its_group() -> None:
    """As in a pod: the volume belongs to root, its group to the user."""
    with folder() as state:
        os.chown(state, 0, 65534)
        state.chmod(0o2770)

        def work() -> None:
            with running(state, free_port()) as dsn:
                assert ask(dsn, "SELECT 1") == 1

        assert _as_user(65534, work) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_is_told_what_is_missing() -> None:
    with folder() as state:
        os.chown(state, NAMELESS, NAMELESS)

        def work() -> None:
            with pytest.raises(ProblemError, match=f"user id {NAMELESS} has no name here"):
                EmbeddedPostgres(state).start()

        assert _as_user(NAMELESS, work) == 0
