"""Packed patches of a segment's rows: two files beside it, mapped, of which only the candidates' pages are ever read.

`patches.i8` is int8[n, patches, width] and `patches.scale` float16[n], both little-endian and in the order of the
segment's rows. A row without patches has the scale 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.patches import WIDTH, Packed, packed_row

CODES_FILE = "patches.i8"
SCALES_FILE = "patches.scale"
FILES = (CODES_FILE, SCALES_FILE)
_CHUNK = 1024


def write_packed(directory: Path, rows: Iterable[bytes | None], patches: int, width: int = WIDTH) -> int:
    """Write both files from `Packed.row_bytes` in row order (None: this row has none); returns the number of rows.

    Streams: no more than one row is held. The same rows give the same bytes. Raises ValueError for a row of another
    number of patches.
    """
    count, nothing = 0, bytes(patches * width)
    with (directory / CODES_FILE).open("wb") as codes, (directory / SCALES_FILE).open("wb") as scales:
        for count, row in enumerate(rows, 1):
            if row is None:
                codes.write(nothing)
                scales.write(bytes(2))
                continue
            if packed_row(row, width).codes.shape[1] != patches:
                raise ValueError(f"row {count - 1} has {len(row)} bytes, not those of {patches} patches")
            scales.write(row[:2])
            codes.write(row[2:])
    return count


@dataclass(frozen=True)
class PackedPatches:
    """The patches of a segment, mapped: `codes` int8[n, patches, width], `scales` float16[n], 0 where a row has none."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float16]

    @classmethod
    def open(cls, directory: Path, rows: int, width: int = WIDTH) -> "PackedPatches | None":
        """Map the files of a segment of so many rows; None when it has none.

        Raises ProblemError UNAVAILABLE naming the file whose size does not fit.
        """
        codes, scales = (directory / name for name in FILES)
        if not codes.exists() and not scales.exists():
            return None
        if _size(scales) != rows * 2:
            raise _misfit(scales, f"{rows * 2} bytes for {rows} rows")
        patches, rest = divmod(_size(codes), max(1, rows) * width)
        if rest or (rows and not patches) or (not rows and _size(codes)):
            raise _misfit(codes, f"a multiple of {width} bytes for each of {rows} rows")
        if not rows:
            return cls(np.empty((0, 1, width), np.int8), np.empty(0, np.float16))
        return cls(
            np.memmap(codes, np.int8, "r", shape=(rows, patches, width)),
            np.memmap(scales, np.dtype("<f2"), "r", shape=(rows,)),
        )

    def of(self, rows: npt.NDArray[np.int64]) -> Packed:
        """Copies of these rows, in their order: a row without patches has the scale 0. Raises IndexError outside."""
        return Packed(np.asarray(self.codes[rows]), np.asarray(self.scales[rows]))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in both files."""
        return int(self.codes.shape[1] * self.codes.shape[2]) + 2


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _misfit(path: Path, expected: str) -> ProblemError:
    size = _size(path)
    found = "is missing" if size < 0 else f"has {size} bytes"
    detail = f"{path} {found}, but must have {expected}: fetch the generation again"
    return ProblemError(ProblemType.UNAVAILABLE, detail)
