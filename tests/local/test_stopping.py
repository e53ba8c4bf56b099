"""`down` and `status` end and describe only what runs in the directory, whatever an old run left there."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from visualindex.errors import ProblemError
from visualindex.local.state import Running, StateDir
from visualindex.local.stopping import report, stop
from visualindex.local.supervisor import Options

_HOLD = """
import sys, signal
from pathlib import Path
from visualindex.local.state import StateDir
with StateDir.at(Path(sys.argv[1])).locked():
    print("held", flush=True)
    signal.pause()
"""
_WAIT = """
import os, sys, signal
from pathlib import Path
Path(sys.argv[1], "lock").write_text(str(os.getpid()))
print("waits", flush=True)
signal.pause()
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state")


@pytest.fixture
def process(request: pytest.FixtureRequest, state: StateDir) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", request.param, str(state.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        state.write_running(Running(started.pid, "http://127.0.0.1:1", "", 8480, ["shop"]))
        yield started
        started.kill()


@pytest.mark.parametrize("process", [_WAIT], indirect=True)
def test_the_process_that_got_the_id_of_a_dead_service_lives_on(
    process: subprocess.Popen[bytes], state: StateDir
) -> None:
    assert report(state.path)["state"] == "stopped"
    assert stop(state.path) == f"nothing runs in {state.path}"
    assert process.poll() is None
    assert psutil.pid_exists(process.pid)
    assert state.read_running() is None


@pytest.mark.parametrize("process", [_HOLD], indirect=True)
def test_the_process_that_holds_the_directory_is_ended(
    process: subprocess.Popen[bytes], state: StateDir
) -> None:
    assert report(state.path)["state"] == "unready"
    assert stop(state.path) == f"stopped the service in {state.path}"
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize("process", [_HOLD], indirect=True)
def test_a_service_that_starts_is_seen_and_ended(process: subprocess.Popen[bytes], state: StateDir) -> None:
    state.running_file.unlink()
    assert report(state.path)["state"] == "starting"
    assert stop(state.path) == f"stopped the service in {state.path}"
    assert not psutil.pid_exists(process.pid)
    assert report(state.path)["state"] == "stopped"


def test_a_mistyped_folder_is_not_made(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert report(absent)["state"] == "stopped"
    assert stop(absent) == f"nothing runs in {absent}"
    assert not absent.exists()


@pytest.mark.parametrize("host", ["::1", "::"])
def test_an_ipv6_address_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="listens on IPv4 only"):
        Options(tmp_path, host)
