"""The embedded server starts, is found again, and comes back from whatever killed it."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import psutil
import psycopg
import pytest

from visualindex.catalog import EmbeddedPostgres

from .scene import folder, serving


def scalar(embedded: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(embedded.dsn, autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[arg-type]
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_a_server_is_durable_by_its_settings(second: EmbeddedPostgres) -> None:
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert scalar(second, f"SHOW {name}") == "on"
    assert scalar(second, "SHOW listen_addresses") == ""
    assert scalar(second, "SHOW max_connections") == "100"


def test_a_second_start_reuses_server_and_data(second: EmbeddedPostgres) -> None:
    scalar(second, "CREATE TABLE t AS SELECT 7 AS n")
    other = EmbeddedPostgres(second.data.parent)
    other.start()
    assert other.pid == second.pid
    other.stop()
    assert second.pid is None
    second.start()
    assert scalar(second, "SELECT n FROM t") == 7


def test_a_killed_server_recovers_what_was_committed(second: EmbeddedPostgres) -> None:
    scalar(second, "CREATE TABLE t AS SELECT 7 AS n")
    assert second.pid is not None
    postmaster = psutil.Process(second.pid)
    postmaster.kill()
    assert not psutil.wait_procs([postmaster], timeout=30)[1]
    assert second.pid is None
    second.start()
    assert scalar(second, "SELECT n FROM t") == 7


def test_a_pid_file_that_names_another_process_is_healed(second: EmbeddedPostgres) -> None:
    second.stop()
    (second.data / "postmaster.pid").write_text(f"{os.getpid()}\n{second.data}\n0\n5432\n\n\n\n")
    assert second.pid is None
    second.start()
    assert scalar(second, "SELECT 1") == 1


def test_a_server_outlives_the_process_that_started_it() -> None:
    with folder() as state:
        start = "import sys; from visualindex.catalog import EmbeddedPostgres; EmbeddedPostgres(sys.argv[1]).start()"
        subprocess.run([sys.executable, "-c", start, str(state)], check=True)
        embedded = EmbeddedPostgres(state)
        assert embedded.pid is not None
        assert scalar(embedded, "SELECT 1") == 1
        embedded.stop()
        assert embedded.pid is None


def test_a_long_path_gets_a_short_socket() -> None:
    with folder() as short:
        long = short / ("deep" * 30)
        with serving(EmbeddedPostgres(long)) as embedded:
            assert scalar(embedded, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_can_run_it_too() -> None:
    with folder() as state:
        os.chown(state, 65534, 65534)
        child = os.fork()
        if child == 0:
            os._exit(_start_as(65534, state))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _start_as(user: int, state: Path) -> int:
    try:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        with serving(EmbeddedPostgres(state)) as embedded:
            assert embedded.pid is not None
            assert psutil.Process(embedded.pid).uids().real == user
            return 0 if scalar(embedded, "SELECT 1") == 1 else 1
    except BaseException:
        traceback.print_exc()
        return 2


def test_a_foreign_socket_folder_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 12345, 12345)
    with pytest.raises(Exception, match="belongs to user 12345"):
        EmbeddedPostgres(tmp_path).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account")
def test_a_closed_folder_opens_for_the_server_alone() -> None:
    with folder() as above:
        state = above / "state"
        state.mkdir(mode=0o700)
        with serving(EmbeddedPostgres(state)) as embedded:
            assert scalar(embedded, "SELECT 1") == 1
            assert [path.stat().st_mode & 0o777 for path in (above, state)] == [0o710, 0o710]
            assert state.stat().st_gid == embedded.data.stat().st_gid
