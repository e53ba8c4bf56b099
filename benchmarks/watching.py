"""What processes and folders take while something runs: CPU seconds and the most memory by role, the most bytes on disk."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

MIB = 1024**2
_EVERY_S = 0.5
_PAUSE = 40
"""A look and the pause after it: one part in so many is looking."""
_FOLDERS_EVERY = 10
"""Looks at processes for each look at folders."""
_UNNAMED = "default_worker.py", "ray::IDLE"
"""In the command lines of processes of Ray that take their names when they are given something to do."""

RoleOf = Callable[[psutil.Process, str], str | None]
"""The role of a process by itself and its command line; None for one that is not counted."""


@dataclass
class Role:
    """All processes of a role. Memory is what is theirs alone (USS): what they share and mapped files are not in it."""

    cpu_s: float = 0.0
    most_bytes: int = 0
    """Of one process."""
    most_together: int = 0
    processes: int = 0
    """Most at a time."""


@dataclass
class Folder:
    """The most that a folder held at one time."""

    bytes: int = 0
    files: int = 0


@dataclass
class Watch:
    """Looks twice a second from `start` to `stop`, or less often where a look takes long: what is watched has the cores."""

    role_of: RoleOf
    folders: Mapping[str, Path]
    roles: dict[str, Role] = field(default_factory=lambda: defaultdict(Role))
    held: dict[str, Folder] = field(default_factory=lambda: defaultdict(Folder))

    def __enter__(self) -> Self:
        self._known: dict[tuple[int, float], tuple[str, str | None]] = {}
        self._cpu: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()
        self._looks = 0
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        pause_s = _EVERY_S
        while not self._ended.wait(pause_s):
            began = time.thread_time()
            self._look()
            pause_s = max(_EVERY_S, _PAUSE * (time.thread_time() - began))

    def _look(self) -> None:
        memory: dict[str, list[int]] = defaultdict(list)
        for process in psutil.process_iter():
            try:
                self._one(process, memory)
            except (psutil.Error, OSError):
                continue
        for role, each in memory.items():
            found = self.roles[role]
            found.most_bytes = max(found.most_bytes, *each)
            found.most_together = max(found.most_together, sum(each))
            found.processes = max(found.processes, len(each))
        if self._looks % _FOLDERS_EVERY == 0:
            self._measure()
        self._looks += 1

    def _one(self, process: psutil.Process, memory: dict[str, list[int]]) -> None:
        key = process.pid, process.create_time()
        line, role = self._known.get(key, ("", None))
        if not line or any(name in line for name in _UNNAMED):
            line = " ".join(process.cmdline())
            role = self.role_of(process, line)
            self._known[key] = line, role
        if role is None:
            return
        times = process.cpu_times()
        now = times.user + times.system
        before = self._cpu.get(key)
        if before is None:  # one that ran before the watch counts from here on
            before = now if self._looks == 0 else 0.0
        found = self.roles[role]
        found.cpu_s += now - before
        self._cpu[key] = now
        memory[role].append(process.memory_full_info().uss)

    def _measure(self) -> None:
        for name, folder in self.folders.items():
            sizes = list(_sizes(folder))
            held = self.held[name]
            held.bytes = max(held.bytes, sum(sizes))
            held.files = max(held.files, len(sizes))

    def told(self) -> dict[str, Any]:
        """All of it, to print."""
        return {
            "processes": {
                role: {
                    "cpu_s": round(one.cpu_s, 1),
                    "most_mib": round(one.most_bytes / MIB, 1),
                    "together_mib": round(one.most_together / MIB, 1),
                    "processes": one.processes,
                }
                for role, one in sorted(self.roles.items())
            },
            "disk": {
                name: {"mib": round(held.bytes / MIB, 1), "files": held.files}
                for name, held in self.held.items()
            },
        }


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue


def until(holds: Callable[[], bool], patience_s: float, every_s: float = 0.1) -> bool:
    """Whether something came to hold within `patience_s` seconds."""
    end = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
