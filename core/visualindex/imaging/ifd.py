"""Reading TIFF directories: the header of a TIFF file, and the EXIF orientation inside every other format."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

Buffer = bytes | bytearray

WIDTH, HEIGHT, ORIENTATION, TILE_WIDTH, TILE_HEIGHT = 256, 257, 274, 322, 323

_INTEGERS = {1: "B", 3: "H", 4: "I"}


class DamagedDirectoryError(ValueError):
    """A TIFF directory that points outside the file or contradicts itself."""


@dataclass(frozen=True)
class Directory:
    """The single-integer tags of one image file directory."""

    tags: Mapping[int, int]
    next_offset: int

    def value(self, tag: int, default: int) -> int:
        """The tag's value, or `default` where the directory lacks it."""
        return self.tags.get(tag, default)

    @property
    def orientation(self) -> int:
        """EXIF orientation 1 to 8; 1 where it is absent or out of range."""
        stored = self.value(ORIENTATION, 1)
        return stored if 1 <= stored <= 8 else 1


def first_directory(data: Buffer) -> Directory:
    """The first directory of a TIFF file or EXIF block. Raises DamagedDirectoryError."""
    order, offset = _start(data)
    return _directory(data, order, offset)


def count_directories(data: Buffer, limit: int) -> int:
    """How many directories (pages) follow one another, at most `limit`; a loop or a cut-off chain ends the count."""
    order, offset = _start(data)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < limit and offset + 2 <= len(data):
        seen.add(offset)
        (entries,) = struct.unpack_from(f"{order}H", data, offset)
        end = offset + 2 + 12 * entries
        offset = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
    return len(seen)


def exif_orientation(exif: Buffer) -> int:
    """Orientation 1 to 8 of an EXIF block; 1 where the block is damaged, as viewers do."""
    try:
        return first_directory(exif).orientation
    except DamagedDirectoryError:
        return 1


def _start(data: Buffer) -> tuple[str, int]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None or len(data) < 8:
        raise DamagedDirectoryError("no TIFF header")
    return order, struct.unpack_from(f"{order}I", data, 4)[0]


def _directory(data: Buffer, order: str, offset: int) -> Directory:
    if offset + 2 > len(data):
        raise DamagedDirectoryError("a directory lies beyond the end")
    (entries,) = struct.unpack_from(f"{order}H", data, offset)
    end = offset + 2 + 12 * entries
    if end > len(data):
        raise DamagedDirectoryError("a directory is cut short")
    tags: dict[int, int] = {}
    for entry in range(offset + 2, end, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
        if count == 1 and kind in _INTEGERS:
            tags.setdefault(tag, struct.unpack_from(order + _INTEGERS[kind], data, entry + 8)[0])
    following = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
    return Directory(tags, following)
