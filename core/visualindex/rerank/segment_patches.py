"""Finds the patches of an image in a segment by its id, without opening anything else of the segment."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visualindex.mapped_files import mapped
from visualindex.rerank.packed import FILES as PATCH_FILES
from visualindex.rerank.packed import PackedPatches

IDS, VERSIONS, BY_ID = "ids.bin", "versions.bin", "by_id.bin"
FILES = (IDS, VERSIONS, BY_ID, *PATCH_FILES)
"""The files that are read here, of all that a segment has."""
_ID_BYTES = 16


@dataclass(frozen=True)
class Found:
    """An image's patches (`Packed.row_bytes`) and the version of the image that the segment holds."""

    patches: bytes
    version: int


@dataclass(frozen=True)
class SegmentPatches:
    """A segment's patches by image: `ids` void16[n], `versions` int64[n], `by_id` int32[n] rows by ascending id."""

    ids: npt.NDArray[np.void]
    versions: npt.NDArray[np.int64]
    by_id: npt.NDArray[np.int32]
    packed: PackedPatches

    @classmethod
    def open(cls, directory: Path) -> "SegmentPatches | None":
        """Map the files of a segment's directory; None where it has no patches.

        Raises ProblemError, UNAVAILABLE or INTERNAL, naming a file that is missing or whose size does not fit.
        """
        ids = mapped(directory / IDS, np.dtype(f"V{_ID_BYTES}"))
        packed = PackedPatches.open(directory, len(ids))
        if packed is None:
            return None
        versions = mapped(directory / VERSIONS, np.dtype("<i8"), rows=len(ids))
        return cls(ids, versions, mapped(directory / BY_ID, np.dtype("<i4"), rows=len(ids)), packed)

    def find(self, image_id: uuid.UUID) -> Found | None:
        """The patches of an image; None where the segment has no such row, or none for it."""
        row = self.row(image_id)
        return None if row is None else self._at(row)

    def known(self, row: int) -> bool:
        """Whether a row has patches, without reading them."""
        return bool(self.packed.scales[row] > 0)

    def row(self, image_id: uuid.UUID) -> int | None:
        """The row of an image, if it has one."""
        wanted, low, high = image_id.bytes, 0, len(self.by_id)
        while low < high:
            middle = (low + high) // 2
            row = int(self.by_id[middle])
            here = self.ids[row].tobytes()
            if here == wanted:
                return row
            low, high = (middle + 1, high) if here < wanted else (low, middle)
        return None

    def _at(self, row: int) -> Found | None:
        one = self.packed.of(np.array([row]))
        return Found(one.row_bytes(0), int(self.versions[row])) if one.scales[0] > 0 else None
