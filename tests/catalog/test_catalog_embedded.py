"""The embedded server starts, is found again, and comes back from whatever killed it."""

import os
import subprocess
import sys
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
        script = (
            "import os, sys; from visualindex.catalog import EmbeddedPostgres; e = EmbeddedPostgres(sys.argv[1]); "
            "e.start(); import psycopg; c = psycopg.connect(e.dsn); print(c.execute('SELECT 1').fetchone()); e.stop()"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(state)],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "HOME": str(state)},
        )
        assert done.stdout == "(1,)\n", done.stderr


def test_a_foreign_socket_folder_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 12345, 12345)
    with pytest.raises(Exception, match="belongs to user 12345"):
        EmbeddedPostgres(tmp_path).start()
