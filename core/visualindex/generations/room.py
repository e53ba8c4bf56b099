"""Whether files fit into the cache, and which unused ones have to go for them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType


@dataclass(frozen=True)
class Held:
    """A file in the cache, whatever the number of its names."""

    path: Path
    bytes: int
    used_at: int
    """Nanoseconds of the clock of its file system."""
    unused: bool
    """Whether it may be deleted."""


@dataclass(frozen=True)
class Demand:
    """What a fetch wants of a cache."""

    new: int
    """Bytes of files that have no room yet."""
    blocks: int
    """Bytes that will still have to be written."""


def to_evict(root: Path, held: Iterable[Held], demand: Demand, *, limit: int, free: int) -> list[Path]:
    """The files to delete so that `demand` fits below `limit` and into what is `free`: least recently used first.

    Raises ProblemError STORAGE_FULL, naming the bytes, when it would not fit even then.
    """
    files = list(held)
    used = sum(file.bytes for file in files)
    excess = max(used + demand.new - limit, demand.blocks - free)
    unused = sorted((file for file in files if file.unused), key=lambda file: file.used_at)
    evictable = sum(file.bytes for file in unused)
    if excess > evictable:
        raise _full(root, demand, in_use=used - evictable, limit=limit, free=free)
    evicted = list[Path]()
    for file in unused:
        if excess <= 0:
            break
        evicted.append(file.path)
        excess -= file.bytes
    return evicted


def free_bytes(root: Path) -> int:
    """Bytes that an ordinary process can still write to the file system of `root`. Raises OSError."""
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def _full(root: Path, demand: Demand, *, in_use: int, limit: int, free: int) -> ProblemError:
    if in_use + demand.new > limit:
        why = f"{in_use} bytes of its {limit} are in use: give the cache more room, or this node fewer shards"
    else:
        why = f"{free} bytes are free on its disk and too little can be evicted: free space or enlarge the volume"
    return ProblemError(
        ProblemType.STORAGE_FULL,
        f"the cache of generations in {root} cannot take {max(demand.new, demand.blocks)} bytes more; {why}",
    )
