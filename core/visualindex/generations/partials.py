"""Files on their way into the cache: of their final length from the start, so that their room is taken, and locked.

What has arrived needs no record: a part is there when its bytes have its digest. A partial file whose lock can be taken
belongs to nobody any more; whoever wants its file goes on with it.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from visualindex.generations.digests import holds, part_digest
from visualindex.generations.manifest import FileEntry

_WRITABLE = 0o644
_READ_ONLY = 0o444


class Partial:
    """An incomplete file that this process alone writes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._file = descriptor

    @classmethod
    def claim(cls, path: Path) -> "Partial | None":
        """The partial file at `path`, made if needed; None when another writes it. Raises OSError."""
        while True:
            descriptor = _opened(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if _is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)  # completed or removed between opening and locking

    @property
    def allocated(self) -> int:
        """Bytes on the disk."""
        return os.fstat(self._file).st_blocks * 512

    @property
    def length(self) -> int:
        """Bytes that its room was taken for: 0 for a new one."""
        return os.fstat(self._file).st_size

    def take_room(self, entry: FileEntry) -> None:
        """Give it its final length, without blocks behind it. Raises OSError."""
        os.truncate(self._file, entry.bytes)

    def missing(self, entry: FileEntry, part_bytes: int) -> list[int]:
        """The numbers of the parts that have not arrived. Blocks. Raises OSError."""
        numbers = range(len(entry.parts))
        if not self.allocated:
            return list(numbers)
        return [
            number
            for number in numbers
            if part_digest(self._file, number * part_bytes, part_bytes) != entry.parts[number]
        ]

    def write(self, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`. Blocks. Raises OSError."""
        left = memoryview(data)
        while left:
            written = os.pwrite(self._file, left, offset)
            left, offset = left[written:], offset + written

    def complete(self, entry: FileEntry, file: Path, links: Sequence[Path]) -> bool:
        """Flush it, link it under `links` and move it to `file`; False when it does not hold what `entry` says.

        It is linked before it is in its place, so that it is never there without being in use. Blocks. Raises OSError.
        """
        if not holds(self._file, entry):
            return False
        os.fsync(self._file)
        for link in links:
            link.unlink(missing_ok=True)
            os.link(self.path, link)
        os.fchmod(self._file, _READ_ONLY)
        self.path.replace(file)
        return True

    def remove(self) -> None:
        """Delete it, unless it is complete; while it is locked. Raises OSError."""
        if _is_at(self._file, self.path):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it to whoever wants it next."""
        os.close(self._file)


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, _WRITABLE)
    except PermissionError:  # its writer was killed just before it moved the file into its place
        with suppress(FileNotFoundError):
            path.chmod(_WRITABLE)
        return os.open(path, flags, _WRITABLE)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
