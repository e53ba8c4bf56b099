"""Searching inverted lists of 8-bit codes on a GPU, with faiss-gpu alone: nothing imports this where Faiss has no GPU.

Not run on a GPU so far: it was written from Faiss's sources and awaits a machine that has one.

Faiss clones IVF-Flat, IVF-SQ and IVF-PQ to a GPU, but no HNSW, no fast scan and no RaBitQ. GPU lists silently ignore a
selector (faiss issue 3924), so that hidden rows would come back. A mask is therefore applied here: more candidates than
wanted are fetched, and those that are not kept are dropped. What a GPU cannot answer so is asked of the CPU's lists, which
stay mapped, and at last of the exact scan. Scores are exact all the same: candidates are rescored from the segment's codes.
"""

import logging
import math
import threading
from itertools import count
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Mask
from visualindex.ann.families.base import Found, Wanted
from visualindex.ann.families.lists import IvfSq8, nprobe_of, unmasked

logger = logging.getLogger(__name__)

_faiss: Any = faiss  # the CPU build has none of the GPU's names

MOST_CANDIDATES = 2048
"""Most neighbours that a GPU search of Faiss returns, and most lists that it reads."""
_SPARE = 2.0
"""How many times as many candidates are fetched as a mask is expected to need: it may leave out just what is near."""
_turns = count()
_told = threading.Event()


class GpuIvfSq8(IvfSq8):
    """Lists of 8-bit codes in a GPU's memory, over the same segment as the index they were copied from.

    The memory is given back with the last reference to the segment.
    """

    def __init__(self, index: IvfSq8, gpu: int) -> None:
        super().__init__(index.index, index.codes, index.parameters, index.effort)
        # Of its own, so that searches of a generation do not wait while the next one is copied.
        self._resources = _faiss.StandardGpuResources()
        self._resources.setPinnedMemory(0)  # else 256 MiB of the pod's memory, for queries by the million
        self._on_gpu = _faiss.index_cpu_to_gpu(self._resources, gpu, index.index)
        self._searching = threading.Lock()  # GPU indexes of Faiss serve one thread at a time

    def _candidates(self, queries: NDArray[np.float32], keep: Mask | None, wanted: Wanted) -> Found:
        spare = 1.0 if keep is None else _SPARE * wanted.widening
        depth = min(math.ceil(wanted.depth * spare), self.rows)
        nprobe = min(nprobe_of(wanted), self._nlist)
        if max(depth, nprobe) <= MOST_CANDIDATES:
            found = self._found(queries, depth, nprobe)
            if found is not None:
                scores, rows = masked(*found, keep, wanted.depth)
                if keep is None or (rows[:, -1] >= 0).all():
                    return scores, rows
        return super()._candidates(queries, keep, wanted)

    def _found(self, queries: NDArray[np.float32], depth: int, nprobe: int) -> Found | None:
        """The best `depth` rows of each query, whether kept or not; None when the GPU has no memory for it."""
        try:
            with self._searching:
                found: Found = self._on_gpu.search(queries, depth, params=unmasked(nprobe))
        except RuntimeError as error:
            _tell(error)
            return None
        return found


def on_gpu(index: IvfSq8) -> IvfSq8:
    """The index in the memory of a GPU, of several in turn; as it is where that fails."""
    try:
        return GpuIvfSq8(index, next(_turns) % _faiss.get_num_gpus())
    except RuntimeError as error:
        _tell(error)
        return index


def masked(scores: NDArray[np.float32], rows: NDArray[np.int64], keep: Mask | None, depth: int) -> Found:
    """The first `depth` candidates of each query that are kept, in their order; -1 as row where there are fewer.

    `scores` float32 [q, c] and `rows` int64 [q, c] with c of at least `depth`, -1 where there is no candidate.
    """
    passing = rows >= 0
    if keep is not None:
        passing &= keep[rows]
    front = np.argsort(~passing, axis=1, kind="stable")[:, :depth]
    rows = np.where(np.take_along_axis(passing, front, axis=1), np.take_along_axis(rows, front, axis=1), -1)
    return np.take_along_axis(scores, front, axis=1), rows


def _tell(error: RuntimeError) -> None:
    """Say once what the CPU does in a GPU's place, and why."""
    if not _told.is_set():
        _told.set()
        logger.warning(
            "a segment is searched on the CPU, because Faiss failed on the GPU (%s): where its memory is full, raise "
            "index.shards or index.numGpus, or lower index.keepGenerations",
            " ".join(str(error).split()),
        )
