"""Memory that a worker shares with the pool: images go in and pixels come out with one copy each and no system call."""

import asyncio
import fcntl
import mmap
import os
from collections.abc import Iterable

from visualindex.imaging.headers import Buffer

LEAST_CAPACITY = 64 * 1024**2
"""Room for the largest answer; pages that were never written take no memory."""

_KEPT_BYTES = 4 * 1024**2
_CHUNK_BYTES = 1024**2


class Arena:
    """One sealed anonymous file, mapped by the pool and by one worker, which write to it in turn."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.capacity = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self.capacity)

    @classmethod
    def create(cls, largest_image: int) -> "Arena":
        """A new arena; it cannot be shrunk, so that no worker can pull memory from under the pool."""
        fd = os.memfd_create("visualindex-decode", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, max(LEAST_CAPACITY, largest_image))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd)

    async def put(self, data: Buffer) -> None:
        """Write `data` at the start, letting other tasks run between the pieces of a large image."""
        self._map[: min(len(data), _CHUNK_BYTES)] = data[:_CHUNK_BYTES] if len(data) > _CHUNK_BYTES else data
        with memoryview(data) as view:
            for start in range(_CHUNK_BYTES, len(data), _CHUNK_BYTES):
                await asyncio.sleep(0)
                end = min(start + _CHUNK_BYTES, len(data))
                self._map[start:end] = view[start:end]

    def write(self, parts: Iterable[Buffer | memoryview]) -> int:
        """Write `parts` one after another from the start; answers their length. Raises ValueError when they do not fit."""
        offset = 0
        for part in parts:
            end = offset + len(part)
            if end > self.capacity:
                raise ValueError(f"an answer beyond the {self.capacity} bytes it may have")
            self._map[offset:end] = part
            offset = end
        return offset

    def take(self, length: int) -> bytearray:
        """A copy of the first `length` bytes."""
        with memoryview(self._map) as view, view[:length] as part:
            return bytearray(part)

    def forget(self) -> None:
        """Give back the memory that an unusually large image took."""
        self._map.madvise(mmap.MADV_REMOVE, _KEPT_BYTES, self.capacity - _KEPT_BYTES)

    def close(self) -> None:
        """Unmap."""
        self._map.close()
        os.close(self.fd)


def is_large(length: int) -> bool:
    """Whether `forget` is worth its call after a message of this length."""
    return length > _KEPT_BYTES
