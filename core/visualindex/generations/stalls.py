"""Files that another process fetches: how long nothing has moved of them, and which process that is.

A lock ends with its process and not before: one that hangs, or is stopped, would be waited for without an end.
"""

from contextlib import suppress
from pathlib import Path


class Stall:
    """Told again and again how many bytes are there."""

    def __init__(self) -> None:
        self._there = -1
        self._since = 0.0

    def lasts_s(self, there: int, now: float) -> float:
        """Seconds, by a clock that reads `now`, for which as many bytes were there as are now."""
        if there != self._there:
            self._there, self._since = there, now
        return now - self._since


def holder_of(path: Path) -> str:
    """Whose lock is on a file, as `process 4711`: by the kernel's list, which leaves out other containers."""
    with suppress(OSError, ValueError, IndexError):
        inode = path.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, place, *_ = line.split()
            if kind == "FLOCK" and place.endswith(f":{inode}") and int(process) > 0:
                return f"process {process}"
    return "a process that cannot be seen from here"
