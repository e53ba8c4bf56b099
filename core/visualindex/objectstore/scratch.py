"""Where half-written files live, so that what a crash leaves behind is recognised and never mistaken for an object.

Several processes may share one folder. Each owns a scratch folder and holds a lock in it for as long as it lives; a
scratch folder whose lock can be taken belongs to nobody any more.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_GUARD = ".guard"
_LOCK = ".lock"


class Scratch:
    """A folder of this process for temporary files, on the file system of `parent`."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        guard = os.open(parent / _GUARD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Without the guard, a sweep could see a folder between its creation and the taking of its lock.
            fcntl.flock(guard, fcntl.LOCK_EX)
            for folder in parent.iterdir():
                if folder.is_dir() and _is_abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            self.folder = Path(tempfile.mkdtemp(prefix="writer-", dir=parent))
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            os.close(guard)

    def close(self) -> None:
        """Remove the folder and give up its lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _is_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
