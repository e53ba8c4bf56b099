"""Digests of files: the expensive ones of their parts once, the cheap one of the whole at every open."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import xxhash

from visualindex.generations.manifest import FileEntry, file_digest

_CHUNK_BYTES = 1024**2
"""Read at once: more falls out of a core's cache before it is hashed."""


def describe(path: Path, part_bytes: int) -> FileEntry:
    """What a manifest says of the file at `path`. Blocks; holds one chunk in memory. Raises OSError."""
    whole, parts, size = xxhash.xxh3_128(), list[str](), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            part, length = hashlib.sha256(), 0
            for chunk in _chunks(descriptor, size, part_bytes):
                part.update(chunk)
                whole.update(chunk)
                length += len(chunk)
            if not length:
                break
            parts.append(part.hexdigest())
            size += length
    finally:
        os.close(descriptor)
    return FileEntry(path.name, size, file_digest(tuple(parts)), whole.hexdigest(), tuple(parts))


def is_intact(path: Path, entry: FileEntry) -> bool:
    """Whether the file at `path` holds what `entry` says. Blocks. Raises OSError, FileNotFoundError among them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return holds(descriptor, entry)
    finally:
        os.close(descriptor)


def holds(descriptor: int, entry: FileEntry) -> bool:
    """Whether the open file holds what `entry` says: its length and its checksum. Blocks. Raises OSError."""
    if os.fstat(descriptor).st_size != entry.bytes:
        return False
    whole = xxhash.xxh3_128()
    for chunk in _chunks(descriptor, 0, entry.bytes):
        whole.update(chunk)
    return whole.hexdigest() == entry.checksum


def part_digest(descriptor: int, offset: int, length: int) -> str:
    """SHA-256 of a stretch of an open file, in hexadecimal. Blocks. Raises OSError."""
    part = hashlib.sha256()
    for chunk in _chunks(descriptor, offset, length):
        part.update(chunk)
    return part.hexdigest()


def _chunks(descriptor: int, offset: int, length: int) -> Iterator[memoryview]:
    """The bytes from `offset` on, `length` at most, in a buffer that is used again for the next chunk."""
    buffer = memoryview(bytearray(min(_CHUNK_BYTES, length)))
    while length > 0:
        read = os.preadv(descriptor, [buffer[: min(len(buffer), length)]], offset)
        if not read:
            return
        yield buffer[:read]
        offset, length = offset + read, length - read
