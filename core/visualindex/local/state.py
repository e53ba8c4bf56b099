"""The state directory of a local service: where everything lies and who runs it."""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType

MARK = "VISUALINDEX_STACK"
"""Environment variable that every process of a stack carries: its value names the state directory."""

_SESSIONS_KEPT = 1

STATE_VARIABLE = "VISUALINDEX_STATE_DIR"
"""Environment variable that gives the processes of a stack the path of the state directory."""


def sockets_folder(mark: str) -> Path:
    """The folder of sockets, and of Ray's own files, of the stack with that mark."""
    return Path("/tmp") / f"vi-{mark[:8]}"  # noqa: S108 - `StateDir.make_sockets_folder` makes sure that it is ours


def _own(folder: Path) -> None:
    """Make the folder, or take it over, for its owner alone. Raises ProblemError UNAVAILABLE when it is not ours."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        detail = f"{folder} is not a folder of user {os.geteuid()}: remove it, so that nobody else reaches the sockets."
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    folder.chmod(0o700)


@dataclass(frozen=True)
class Running:
    """What a running stack says of itself to `status`, `down` and the other commands."""

    pid: int
    url: str
    dsn: str
    metrics_port: int
    indexes: list[str]


@dataclass(frozen=True)
class StateDir:
    """Paths inside the state directory."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "StateDir":
        """The directory, made if it is missing, readable by its owner alone where the owner can arrange it."""
        path = path.resolve()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path)

    @property
    def mark(self) -> str:
        """The value of MARK for this directory's processes."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:16]

    @property
    def logs(self) -> Path:
        """Output of the processes."""
        return self.path / "logs"

    @property
    def sockets(self) -> Path:
        """Sockets need short paths, HAProxy's the shortest (97 bytes), so they lie outside; see `make_sockets_folder`."""
        return sockets_folder(self.mark)

    @property
    def ray_temp(self) -> Path:
        """Ray's folder: it opens it to everybody, so it lies inside one that is closed."""
        return self.sockets / "r"

    @property
    def replica_logs(self) -> Path:
        """Where the replicas of the latest start write."""
        return self.ray_temp / "session_latest" / "logs" / "serve"

    def forget_sessions(self) -> None:
        """Before a start, delete the files of Ray's earlier ones but the last: each leaves a folder, and Ray keeps all."""
        sessions = sorted(path for path in self.ray_temp.glob("session_*") if not path.is_symlink())
        for old in sessions[:-_SESSIONS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def make_sockets_folder(self) -> None:
        """Make the folder of sockets, for its owner alone. Raises ProblemError UNAVAILABLE when somebody else has it."""
        _own(self.sockets)

    @property
    def running_file(self) -> Path:
        """What runs here now."""
        return self.path / "running.json"

    @property
    def lock_file(self) -> Path:
        """Held open, with its process id inside, by the supervisor of the stack that runs here or starts."""
        return self.path / "lock"

    def token(self) -> str:
        """The Ray token of this machine's stack, made once, readable by its owner alone."""
        file = self.path / "ray-token"
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as out:
                out.write(secrets.token_hex(32))
        return file.read_text()

    def write_running(self, running: Running) -> None:
        """Publish what runs here."""
        partial = self.running_file.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(json.dumps(asdict(running)))
        partial.replace(self.running_file)

    def read_running(self) -> Running | None:
        """What runs here, None when nothing says so."""
        try:
            return Running(**json.loads(self.running_file.read_text()))
        except FileNotFoundError:
            return None

    def locked_by(self) -> int | None:
        """The process id in the lock file: the last to hold the directory, whether it lives or not; None before any."""
        try:
            return int(self.lock_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory: only one stack may run in it. Raises ProblemError UNAVAILABLE when one does."""
        with self.lock_file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                detail = f"A service already runs in {self.path}; stop it with `visualindex down --state {self.path}`."
                raise ProblemError(ProblemType.UNAVAILABLE, detail) from exc
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield
