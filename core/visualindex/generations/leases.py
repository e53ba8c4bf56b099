"""Who uses which cached files: directories of hard links, each locked by its process for as long as that lives.

A link keeps its file, so a used file can neither be evicted nor vanish under a mapping, and the number of links says
whether a file is used. The lock ends with the process, however that ends; links without a lock are swept.
"""

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class Lease:
    """Files of one shard in `directory`, under their own names: verified, read-only, and kept until `release`."""

    def __init__(self, directory: Path) -> None:
        """Make `directory` and lock it; the caller keeps sweepers away meanwhile. Raises OSError."""
        directory.mkdir()
        self.directory = directory
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._releasing = threading.Lock()
        self._held = True

    def release(self) -> None:
        """Give the files up; mappings of them stay valid. Any thread may call it, and more than once."""
        with self._releasing:
            if not self._held:
                return
            self._held = False
        for link in _links(self.directory):
            with suppress(OSError):
                os.utime(link)  # the end of its use counts for which file was used last
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lease_directory(parent: Path, generation: str, shard: int) -> Path:
    """Where a new lease of a shard can be made."""
    return parent / f"{generation}-{shard}-{secrets.token_hex(8)}"


def sweep(parent: Path) -> None:
    """Remove the leases below `parent` whose processes are gone. Only while no lease is being made. Raises OSError."""
    for directory in list(parent.iterdir()):
        if _is_abandoned(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _is_abandoned(directory: Path) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # released just now
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _links(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from list(directory.iterdir())
