"""Finds and ends the processes of a stack, whoever started them: all carry the stack's mark in their environment."""

import contextlib
import os
import time
from collections.abc import Iterable

import psutil

from visualindex.local.state import MARK, sockets_folder


def of_stack(mark: str) -> list[psutil.Process]:
    """Every process of the stack except this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and _carries(process, mark):
                found.append(process)
    return found


def _carries(process: psutil.Process, mark: str) -> bool:
    """Whether a process has the mark, or writes its log into the folder of the stack's Ray.

    Ray's agents write their titles over their environment, and outlive a raylet that was killed.
    """
    if process.environ().get(MARK) == mark:
        return True
    folder = f"{sockets_folder(mark)}/"
    return process.name().startswith("ray::") and any(f.path.startswith(folder) for f in process.open_files())


def end(processes: Iterable[psutil.Process], *, patience_s: float) -> None:
    """Ask the processes to end, and kill those that have not after `patience_s` seconds."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=patience_s)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)


def kill_stack(mark: str, *, keep: frozenset[int] = frozenset()) -> int:
    """Kill every process of the stack but those in `keep`, until none is left. Returns how many there were."""
    killed = 0
    for _ in range(20):
        left = [p for p in of_stack(mark) if p.pid not in keep]
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
                killed += 1
        psutil.wait_procs(left, timeout=5)
        time.sleep(0.05)
    return killed


def with_children(pid: int | None) -> frozenset[int]:
    """The process and everything under it; empty for None or a process that is gone."""
    with contextlib.suppress(psutil.Error):
        if pid is not None:
            return frozenset({pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))})
    return frozenset()
