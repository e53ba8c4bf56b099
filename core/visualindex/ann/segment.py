"""A segment: rows that never change, in memory-mapped files that every process of a node shares."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_columns import AttributeColumns, Attributes
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.families import Ann, Effort, open_ann
from visualindex.ann.remembered import Remembered
from visualindex.mapped_files import damaged, mapped

IDS, VERSIONS, BUCKETS, SORTED_KEYS, BY_ID = (
    "ids.bin",
    "versions.bin",
    "buckets.bin",
    "id_keys.bin",
    "by_id.bin",
)
VECTORS, ATTRIBUTES = "vectors.f16", "attributes.arrow"


@dataclass(frozen=True)
class Segment:
    """n rows: row numbers 0 … n-1 mean the same in every array. Any order of rows is allowed."""

    ids: NDArray[np.uint8]
    """Image ids, uint8 [n, 16]."""
    versions: NDArray[np.int64]
    """Version of each image, int64 [n]."""
    buckets: NDArray[np.uint16]
    """Bucket of each image, uint16 [n]."""
    sorted_keys: NDArray[np.uint64]
    """The first eight bytes of the ids as numbers, ascending, uint64 [n]."""
    by_id: NDArray[np.int32]
    """The row of each entry of `sorted_keys`, int32 [n]."""
    codes: Codes
    """Half-precision vectors, uint8 [n, 2 * dimension]."""
    attributes: Attributes
    """What filters read."""
    ann: Ann | None = None
    """The approximate index over the codes; without one, or one whose effort nobody chose, the rows are scanned."""

    @property
    def effort(self) -> Effort | None:
        """How hard the approximate index looks; None where the rows are scanned."""
        return None if self.ann is None else self.ann.effort

    @property
    def rows(self) -> int:
        """Rows, whether they are still wanted or not."""
        return len(self.ids)

    @cached_property
    def remembered(self) -> Remembered:
        """What filters leave of the rows."""
        return Remembered(self.attributes, self.rows)

    @cached_property
    def memory_bytes(self) -> int:
        """Bytes that searches keep hot: mapped, so the kernel may share them between replicas of a node."""
        arrays = (self.ids, self.versions, self.buckets, self.sorted_keys, self.by_id)
        held = sum(array.nbytes for array in arrays) + self.attributes.memory_bytes
        if self.ann is None or self.ann.family == "hnsw-fp16":
            held += self.codes.nbytes  # other families touch those of candidates alone
        return held + (self.ann.memory_bytes if self.ann else 0)

    def find(self, ids: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The row of each id (uint8 [m, 16]), int64 [m]; -1 where there is none."""
        halves = _keys(ids)
        places = np.searchsorted(self.sorted_keys, halves)
        ends = np.searchsorted(self.sorted_keys, halves, "right")
        alike = np.flatnonzero(
            ends - places > 1
        )  # callers who count up their own ids share the first half of all
        places[alike] = self._behind(ids[alike], places[alike], ends[alike])
        found = np.full(len(ids), -1, np.int64)
        there = np.flatnonzero(places < ends)
        rows = self.by_id[places[there]]
        same = (self.ids[rows] == ids[there]).all(axis=1)
        found[there[same]] = rows[same]
        return found

    def _behind(
        self, ids: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Where each id stands, or would, among those between two places that share its first half: a binary search."""
        halves = _keys(ids[:, 8:])
        open_ = np.arange(len(ids))
        while len(open_):
            middle = (low[open_] + high[open_]) // 2
            less = _keys(self.ids[self.by_id[middle], 8:]) < halves[open_]
            low[open_[less]] = middle[less] + 1
            high[open_[~less]] = middle[~less]
            open_ = open_[low[open_] < high[open_]]
        return low

    def within(self, buckets: range) -> Mask:
        """Which rows belong to these buckets, bool [n]."""
        return (self.buckets >= buckets.start) & (self.buckets < buckets.stop)


def write_segment(
    directory: Path,
    *,
    ids: NDArray[np.uint8],
    versions: NDArray[np.int64],
    buckets: NDArray[np.uint16],
    attributes: AttributeColumns,
    ann: Ann | None,
) -> None:
    """Write every file of a segment but its vectors, which are large and written as they come (`VECTORS`)."""
    keys = _keys(ids)
    by_id = np.lexsort((_keys(ids[:, 8:]), keys)).astype(np.int32)
    for name, array in (
        (IDS, ids),
        (VERSIONS, versions.astype("<i8")),
        (BUCKETS, buckets.astype("<u2")),
        (SORTED_KEYS, keys[by_id].astype("<u8")),
        (BY_ID, by_id.astype("<i4")),
    ):
        np.ascontiguousarray(array).tofile(directory / name)
    attributes.write(directory / ATTRIBUTES)
    if ann is not None:
        ann.write(directory)


def open_segment(directory: Path, dimension: int, *, gpu: bool = False) -> Segment:
    """The segment whose files lie in `directory`, mapped; nothing is copied. Their checksums were compared before.

    `gpu`: its index is copied into the memory of a GPU that this process was given, where the family has such a form.

    Raises `ProblemError(INTERNAL)` naming the file whose size or content does not fit the others.
    """
    ids = mapped(directory / IDS, np.dtype(np.uint8), (16,))
    rows = len(ids)
    codes = mapped(directory / VECTORS, np.dtype(np.uint8), (2 * dimension,), rows)
    return Segment(
        ids=ids,
        versions=mapped(directory / VERSIONS, np.dtype("<i8"), (), rows),
        buckets=mapped(directory / BUCKETS, np.dtype("<u2"), (), rows),
        sorted_keys=mapped(directory / SORTED_KEYS, np.dtype("<u8"), (), rows),
        by_id=_rows(directory / BY_ID, rows),
        codes=codes,
        attributes=AttributeColumns.open(directory / ATTRIBUTES, rows),
        ann=open_ann(directory, codes, verified=True, gpu=gpu),
    )


def _rows(path: Path, rows: int) -> NDArray[np.int32]:
    by_id: NDArray[np.int32] = mapped(path, np.dtype("<i4"), (), rows)
    if rows and (int(by_id.min()) < 0 or int(by_id.max()) >= rows):
        raise damaged(path, f"it names rows outside of 0 … {rows - 1}")
    return by_id


def _keys(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first eight bytes of each id as a number that sorts like them."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8")[:, 0].astype(np.uint64)
