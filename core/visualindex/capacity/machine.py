"""What this machine, or the container on it, still has."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Room:
    """Bytes that a process may still take."""

    memory: int
    disk: int


def room(folder: Path) -> Room:
    """The memory left, and the disk left where `folder` is, or would be made."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return Room(available_memory(), shutil.disk_usage(there).free)


def available_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes this process may still take: of the machine, or of its container where that is less.

    Pages of files count as free, because the kernel drops them when memory is asked for.
    """
    free = psutil.virtual_memory().available
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        used -= _droppable(group / "memory.stat")
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - used))


def available_cpus(group: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may keep busy: of the machine, or of its container where those are fewer; at least one."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, round(int(quota) / int(period))))


def _droppable(stat: Path) -> int:
    """Bytes of pages of files that nobody has to write back or keep."""
    if not stat.exists():
        return 0
    held = dict(line.split() for line in stat.read_text().splitlines())
    return sum(int(held.get(name, 0)) for name in ("active_file", "inactive_file"))
