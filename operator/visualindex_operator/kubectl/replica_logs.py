"""The log files of Serve replicas inside a pod: which there are, whose they are, and how to read them."""

from dataclasses import dataclass
from enum import StrEnum

from visualindex.serve_config import GATEWAY, index_application, is_encoder_application

_FOLDER = "/tmp/ray/session_latest/logs/serve"  # noqa: S108 - where Ray writes inside its own container
_DIVIDER = "--"

_LISTING_SCRIPT = f"""
cd {_FOLDER} 2>/dev/null || exit 0
ls | grep '^replica_.*[.]log$'
echo {_DIVIDER}
ls -l /proc/[0-9]*/fd 2>/dev/null | sed -n 's|.*/serve/\\(replica_.*[.]log\\)$|\\1|p' | sort -u
"""
LISTING = ("sh", "-c", _LISTING_SCRIPT)
"""Prints the replicas' files and, below a divider, those that a process holds open: the files of live replicas."""


class Part(StrEnum):
    """Whose logs to show."""

    GATEWAY = "gateway"
    SHARD = "shard"
    ENCODER = "encoder"
    HEAD = "head"
    WORKER = "worker"
    OPERATOR = "operator"


@dataclass(frozen=True, order=True)
class ReplicaLog:
    """A file, named by Ray after application, deployment and replica."""

    application: str
    deployment: str
    replica: str

    @property
    def file(self) -> str:
        """The file's name."""
        return f"replica_{self.application}_{self.deployment}_{self.replica}.log"

    @property
    def label(self) -> str:
        """The replica in a line's prefix."""
        return f"{self.deployment}/{self.replica}"


def replica_logs(listing: list[str], index: str, part: Part | None, *, ended: bool) -> list[ReplicaLog]:
    """The files of an index's replicas in a pod: those that live, or those that have ended."""
    divider = listing.index(_DIVIDER) if _DIVIDER in listing else len(listing)
    alive = set(listing[divider + 1 :])
    found = [log for name in listing[:divider] if (name in alive) != ended and (log := _parse(name))]
    return sorted(log for log in found if _belongs(log, index) and (part is None or _is_of(log, part)))


def reading(log: ReplicaLog, tail: int | None, *, follow: bool) -> list[str]:
    """The command that prints a file's last lines, or all, and goes on with what is written later.

    What follows ends with its standard input: a command in a pod outlives the connection that started it.
    """
    lines = "+1" if tail is None else str(tail)
    if not follow:
        return ["tail", "-n", lines, f"{_FOLDER}/{log.file}"]
    script = 'tail -n "$0" -F "$1" 2>/dev/null & cat >/dev/null; kill $!'
    return ["sh", "-c", script, lines, f"{_FOLDER}/{log.file}"]


def _parse(name: str) -> ReplicaLog | None:
    parts = name.removeprefix("replica_").removesuffix(".log").split("_")
    return ReplicaLog(*parts) if len(parts) == 3 else None


def _belongs(log: ReplicaLog, index: str) -> bool:
    own = (index_application(index), f"{GATEWAY}-{index}")
    return log.application in own or is_encoder_application(log.application, index)


def _is_of(log: ReplicaLog, part: Part) -> bool:
    return log.deployment == part or log.deployment.startswith(f"{part}-")
