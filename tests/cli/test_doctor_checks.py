"""Each check of `visualindex doctor` says ok, warn or fail for the right reason, and what to do."""

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from visualindex.cli import checks
from visualindex.cli.checks import GIB, Requirement
from visualindex.local.state import STATE_VARIABLE, StateDir


def test_an_old_python_fails() -> None:
    assert checks.check_python((3, 10, 4)).level == "fail"
    assert checks.check_python().level == "ok"


def test_a_missing_distribution_names_the_extra_that_brings_it() -> None:
    check = checks.check_requirement(Requirement("visualindex-absent", "cpu"))
    assert (check.level, check.advice) == ("fail", "pip install 'visualindex[cpu]'")


def test_an_alternative_distribution_serves_as_well() -> None:
    check = checks.check_requirement(Requirement("visualindex-absent", "cpu", ("pydantic",)))
    assert (check.level, check.name) == ("ok", "pydantic")


def test_a_native_module_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    (tmp_path / "raises.py").write_text("raise ImportError('libmissing.so')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = checks.check_native_modules(["json", "dies", "raises", "absent_module"])
    assert check.level == "fail"
    assert check.found == "cannot be imported: dies (signal 4), raises (ImportError: libmissing.so)"


@pytest.mark.parametrize(("gib", "level"), [(1, "fail"), (3, "warn"), (8, "ok")])
def test_memory_is_judged_by_what_the_service_needs(gib: int, level: str) -> None:
    assert checks.check_memory(gib * GIB).level == level


def test_absent_shared_memory_is_a_warning(tmp_path: Path) -> None:
    assert checks.check_shared_memory(tmp_path / "shm").level == "warn"


def test_a_state_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    check = checks.check_disk(tmp_path / "state")
    assert (check.level, check.advice) == ("fail", "name another state folder with --state")


def test_a_state_folder_is_judged_by_its_nearest_parent(tmp_path: Path) -> None:
    assert "GiB free" in checks.check_disk(tmp_path / "not" / "made" / "yet").found


@pytest.mark.parametrize(
    ("soft", "level"), [(256, "fail"), (1024, "warn"), (65536, "ok"), (resource.RLIM_INFINITY, "ok")]
)
def test_open_files_are_judged_by_the_soft_limit(soft: int, level: str) -> None:
    assert checks.check_open_files(soft, resource.RLIM_INFINITY).level == level


def test_the_advice_for_open_files_never_exceeds_the_hard_limit() -> None:
    assert checks.check_open_files(256, 2048).advice == "run `ulimit -n 2048` first"


def test_the_embedded_postgres_runs_here() -> None:
    check = checks.check_postgres()
    assert check.level == "ok"
    assert "PostgreSQL" in check.found


def test_root_without_a_way_to_add_a_user_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_user(name: str) -> bool:
        return False

    monkeypatch.setattr(checks, "_user_exists", no_user)
    assert checks.check_postgres_user("postgres 18", 0, False).level == "fail"
    assert checks.check_postgres_user("postgres 18", 0, True).level == "ok"
    assert checks.check_postgres_user("postgres 18", 1000, False).level == "ok"


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_busy_port_names_its_owner(busy_port: int) -> None:
    check = checks.check_port(busy_port)
    assert check.level == "warn"
    assert f"(pid {os.getpid()})" in check.found


def test_a_port_is_free_once_its_owner_has_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert checks.check_port(port).level == "ok"


def test_a_lock_of_a_dead_postmaster_is_reported_and_a_live_one_is_not(tmp_path: Path) -> None:
    lock = tmp_path / "postgres" / "postmaster.pid"
    lock.parent.mkdir()
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    lock.write_text(f"{finished.pid}\n")
    assert checks.check_stale_postgres(tmp_path).level == "warn"
    lock.write_text(f"{os.getpid()}\n")
    assert checks.check_stale_postgres(tmp_path).level == "ok"


@pytest.fixture
def raylet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[psutil.Process]:
    """A process named raylet that says, where the test wants it, that the service in `tmp_path` started it."""
    program = tmp_path / "raylet"
    program.symlink_to("/bin/sleep")
    environment = {STATE_VARIABLE: str(tmp_path)} if request.param == "ours" else {}
    with subprocess.Popen([str(program), "60"], env=environment) as process:
        yield next(p for p in psutil.process_iter(["pid", "name", "cmdline"]) if p.pid == process.pid)
        process.kill()


@pytest.mark.parametrize("raylet", ["foreign"], indirect=True)
def test_a_raylet_of_another_program_is_left_to_it(raylet: psutil.Process) -> None:
    check = checks.check_leftovers(iter([raylet]))
    assert check.level == "warn"
    assert f"raylet (pid {raylet.pid})" in check.found
    assert "another program's Ray" in check.advice


@pytest.mark.parametrize("raylet", ["ours"], indirect=True)
def test_a_raylet_whose_service_is_gone_is_a_leftover(raylet: psutil.Process, tmp_path: Path) -> None:
    check = checks.check_leftovers(iter([raylet]))
    assert (check.level, check.advice) == ("warn", f"`visualindex down --state {tmp_path}`")


@pytest.mark.parametrize("raylet", ["ours"], indirect=True)
def test_a_raylet_of_a_service_that_is_up_is_well(raylet: psutil.Process, tmp_path: Path) -> None:
    with StateDir(tmp_path).locked():
        check = checks.check_leftovers(iter([raylet]))
    assert (check.level, check.found) == ("ok", f"nothing left over; {tmp_path} is up")


def test_doctor_prints_json_and_fails_when_a_check_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    command = [sys.executable, "-c", "from visualindex.cli import main; main()", "doctor", "--json"]
    result = subprocess.run(
        [*command, "--state", str(tmp_path / "state")], capture_output=True, text=True, check=False
    )
    findings = {check["name"]: check["level"] for check in json.loads(result.stdout)}
    assert findings["disk"] == "fail"
    assert result.returncode == 1
