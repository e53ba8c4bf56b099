"""What a shard index holds, row by row, for comparisons with the truth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Codes
from visualindex.ann.state import State
from visualindex.identity import buckets_of

_SLICE_ROWS = 8_192


@dataclass(frozen=True)
class HeldRows:
    """n images that can be found."""

    ids: NDArray[np.uint8]
    """uint8 [n, 16]"""
    versions: NDArray[np.int64]
    """int64 [n]"""
    buckets: NDArray[np.uint16]
    """uint16 [n]"""
    codes: Codes
    """Half-precision unit vectors, uint8 [n, 2 * dimension]."""


def held_rows(state: State, buckets: NDArray[np.bool_] | None = None) -> Iterator[HeldRows]:
    """Everything that a search can find in this state, in slices; of some `buckets`, bool [1024], alone if given."""
    for part, base in enumerate(state.bases):
        segment = base.segment
        wanted = base.alive if buckets is None else base.alive & buckets[segment.buckets]
        for rows in _slices(np.flatnonzero(wanted)):
            yield HeldRows(
                segment.ids[rows], segment.versions[rows], segment.buckets[rows], state.codes_of(part, rows)
            )
    for rows in _slices(np.flatnonzero(state.alive[: state.rows])):
        ids = state.ids[rows]
        found = buckets_of(ids)
        keep = np.ones(len(rows), np.bool_) if buckets is None else buckets[found]
        chosen = rows[keep]
        if len(chosen):
            codes = state.codes_of(len(state.bases), chosen)
            yield HeldRows(ids[keep], state.versions[chosen], found[keep], codes)


def _slices(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), _SLICE_ROWS):
        yield rows[start : start + _SLICE_ROWS]
