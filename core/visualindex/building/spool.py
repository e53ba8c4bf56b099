"""Rows on their way into a segment: kept on disk as they come, so that memory holds their ids alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.changes import normalised
from visualindex.ann.codes import Codes
from visualindex.catalog import Rows
from visualindex.mapped_files import mapped

_GATHER_ROWS = 16_384
_BYTE = np.dtype(np.uint8)


class Spool:
    """Rows in the order in which they came."""

    def __init__(self, directory: Path, dimension: int) -> None:
        """Keep them in files of `directory`."""
        self.dimension = dimension
        self._vectors = directory / "vectors.spool"
        self._attributes = directory / "attributes.spool"
        self._ids: list[NDArray[np.uint8]] = []
        self._versions: list[NDArray[np.int64]] = []
        self._ends: list[int] = [0]
        self._files: tuple[BinaryIO, BinaryIO] | None = None

    def __enter__(self) -> "Spool":
        self._files = self._vectors.open("wb"), self._attributes.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files or ():
            file.close()
        self._files = None

    def add(self, rows: Rows) -> None:
        """Take in some rows. Raises ProblemError INVALID_REQUEST for a vector without direction."""
        assert self._files is not None  # noqa: S101 - used as a context manager
        vectors, attributes = self._files
        vectors.write(half.encode(normalised(rows.vectors, self.dimension, "vectors")).tobytes())
        for one in rows.attributes():
            text = orjson.dumps(one)
            attributes.write(text)
            self._ends.append(self._ends[-1] + len(text))
        self._ids.append(rows.ids)
        self._versions.append(rows.versions)

    def ids(self) -> NDArray[np.uint8]:
        """Image ids, uint8 [n, 16]."""
        return np.concatenate([np.zeros((0, 16), np.uint8), *self._ids])

    def versions(self) -> NDArray[np.int64]:
        """Versions, int64 [n]."""
        return np.concatenate([np.zeros(0, np.int64), *self._versions])

    def write_vectors(self, order: NDArray[np.int64], path: Path) -> Codes:
        """The codes in another order, written to `path` and mapped, uint8 [n, 2 * dimension]."""
        spooled = mapped(self._vectors, _BYTE, (2 * self.dimension,))
        with path.open("wb") as file:
            for start in range(0, len(order), _GATHER_ROWS):
                file.write(spooled[order[start : start + _GATHER_ROWS]].tobytes())
        codes: Codes = mapped(path, _BYTE, (2 * self.dimension,))
        return codes

    def attributes(self, order: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
        """The attributes of each row in another order."""
        ends = np.array(self._ends, np.int64)
        with self._attributes.open("rb") as file:
            for row in order.tolist():
                file.seek(int(ends[row]))
                yield orjson.loads(file.read(int(ends[row + 1] - ends[row])))

    def remove(self) -> None:
        """Delete the files."""
        self._vectors.unlink(missing_ok=True)
        self._attributes.unlink(missing_ok=True)
