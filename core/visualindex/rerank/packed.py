"""Packed patches of a segment's rows: two files beside it, mapped, of which only the candidates' pages are ever read.

`patches.i8` is int8[n, patches, width] and `patches.scale` float16[n], both little-endian and in the order of the
segment's rows. A row without patches has the scale 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.patches import WIDTH, Packed, packed_row

CODES_FILE = "patches.i8"
SCALES_FILE = "patches.scale"
FILES = (CODES_FILE, SCALES_FILE)


def write_packed(directory: Path, rows: Iterable[bytes | None], width: int = WIDTH) -> int:
    """Write both files from `Packed.row_bytes` in row order (None: this row has none); returns how many rows have some.

    Raises as `PackedWriter.add`.
    """
    with PackedWriter(directory, width) as writer:
        for row in rows:
            writer.add(row)
    return writer.known


class PackedWriter:
    """Writes both files row by row, holding no more than one; none are left where no row had patches.

    The same rows give the same bytes.
    """

    def __init__(self, directory: Path, width: int = WIDTH) -> None:
        self.known = 0
        self._directory = directory
        self._width = width
        self._rows = 0
        self._row_bytes = 0
        self._files: tuple[BinaryIO, BinaryIO] | None = None

    def __enter__(self) -> "PackedWriter":
        codes, scales = (directory_file.open("wb") for directory_file in self._paths)
        self._files = codes, scales
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._files is not None  # noqa: S101 - entered
        if self.known:
            self._reach(self._rows)
        for file in self._files:
            file.close()
        if not self.known:
            for path in self._paths:
                path.unlink()

    def add(self, row: bytes | None) -> None:
        """The next row. Raises ValueError for one of another number of patches than those before it."""
        assert self._files is not None  # noqa: S101 - entered
        if row is not None:
            size = packed_row(row, self._width).codes.size
            if size != (self._row_bytes or size):
                raise ValueError(
                    f"row {self._rows} has {size} bytes of patches, those before it {self._row_bytes}"
                )
            self._row_bytes = size
            self._reach(self._rows)
            codes, scales = self._files
            scales.write(row[:2])
            codes.write(row[2:])
            self.known += 1
        self._rows += 1

    def _reach(self, rows: int) -> None:
        """Fill up to so many rows with zeros: those without patches, however many there are by now."""
        assert self._files is not None  # noqa: S101
        for file, each in zip(self._files, (self._row_bytes, 2), strict=True):
            if file.tell() < rows * each:
                file.truncate(rows * each)
                file.seek(rows * each)

    @property
    def _paths(self) -> tuple[Path, Path]:
        return self._directory / CODES_FILE, self._directory / SCALES_FILE


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
