"""The folders of a local service are its owner's alone, and its sockets fit into the kernel's and HAProxy's limits."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from visualindex.errors import ProblemError
from visualindex.local.state import Running, StateDir

_KERNEL_LIMIT = 107
_HAPROXY_LIMIT = 97


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_sockets_have_short_paths(state: StateDir) -> None:
    """Ray adds its session, with a process id of up to 7 digits, and puts a node's id before HAProxy's sockets."""
    session = "session_2026-11-23_06-39-00_368333_4194304"
    assert len(str(state.ray_temp / session / "sockets" / "plasma_store")) <= _KERNEL_LIMIT
    assert len(str(state.sockets / ("f" * 56) / "metrics.sock")) <= _HAPROXY_LIMIT


def test_the_folder_of_sockets_is_closed_again(state: StateDir) -> None:
    try:
        state.make_sockets_folder()
        assert _mode(state.sockets) == 0o700
        state.sockets.chmod(0o777)
        state.make_sockets_folder()
        assert _mode(state.sockets) == 0o700
    finally:
        state.sockets.rmdir()


def test_a_link_in_place_of_the_folder_of_sockets_is_refused(state: StateDir, tmp_path: Path) -> None:
    state.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(ProblemError, match="is not a folder of user"):
            state.make_sockets_folder()
    finally:
        state.sockets.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_is_refused(state: StateDir) -> None:
    state.sockets.mkdir()
    try:
        os.chown(state.sockets, 12345, 12345)
        with pytest.raises(ProblemError, match="is not a folder of user"):
            state.make_sockets_folder()
    finally:
        state.sockets.rmdir()


def test_what_runs_is_written_for_its_owner_alone(state: StateDir) -> None:
    """The file names the database, so it is closed from its first byte, whatever the umask and what lies there."""
    before = os.umask(0)
    try:
        state.running_file.with_suffix(".partial").touch(mode=0o666)
        state.write_running(Running(1, "http://127.0.0.1:1", "host=/run", 8480, ["shop"]))
    finally:
        os.umask(before)
    assert _mode(state.running_file) == 0o600


def test_the_files_of_old_starts_are_deleted(state: StateDir) -> None:
    state.make_sockets_folder()
    try:
        for day in ("19", "20", "21"):
            (state.ray_temp / f"session_2026-11-{day}_06-39-00_368333_41943" / "logs").mkdir(parents=True)
        (state.ray_temp / "session_latest").symlink_to("session_2026-11-21_06-39-00_368333_41943")
        state.forget_sessions()
        assert (state.ray_temp / "session_latest" / "logs").is_dir()
        assert len(list(state.ray_temp.iterdir())) == 2
    finally:
        shutil.rmtree(state.sockets)


def test_a_directory_says_who_holds_it(state: StateDir) -> None:
    assert state.locked_by() is None
    state.lock_file.write_text("12345678")
    with state.locked():
        assert state.locked_by() == os.getpid()
