"""Searching inverted lists of 8-bit codes on a GPU, for faiss-gpu alone; nothing imports this where there is no GPU.

Not run on a GPU so far: it was written from Faiss's documentation and awaits a machine that has one.

Faiss clones IVF-Flat, IVF-SQ and IVF-PQ to a GPU, but no HNSW, no fast scan and no RaBitQ. GPU lists silently ignore a
selector (faiss issue 3924), so that hidden rows would come back. A mask is therefore applied here: more candidates than
wanted are fetched, those that are not kept are dropped, and a query that is then short is answered by the exact scan of
the CPU. Scores are exact all the same: candidates are rescored from the segment's codes.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Mask
from visualindex.ann.families.base import Effort, Found, Wanted
from visualindex.ann.families.lists import IvfSq8, nprobe_of

_faiss: Any = faiss  # the CPU build has none of the GPU's names

MOST_CANDIDATES = 2048
"""Most neighbours that a GPU search of Faiss returns."""


def gpus() -> int:
    """GPUs that Faiss can use; none with the CPU build."""
    return int(_faiss.get_num_gpus())


class GpuIvfSq8(IvfSq8):
    """Lists of 8-bit codes in a GPU's memory, over the same segment as the index they were copied from."""

    def __init__(self, index: IvfSq8, gpu: int = 0) -> None:
        super().__init__(index.index, index.codes, index.parameters, index.effort)
        self._resources = _faiss.StandardGpuResources()
        self._on_gpu = _faiss.index_cpu_to_gpu(self._resources, gpu, index.index)

    def search(self, queries: NDArray[np.float32], k: int, keep: Mask | None, effort: Effort) -> Found:
        """See `Ann.search`; deep pages, which a GPU cannot give, come from the CPU's lists."""
        if k * effort.rescore > MOST_CANDIDATES:
            return IvfSq8(self.index, self.codes, self.parameters, self.effort).search(
                queries, k, keep, effort
            )
        return super().search(queries, k, keep, effort)

    def _candidates(self, queries: NDArray[np.float32], keep: Mask | None, wanted: Wanted) -> Found:
        self._on_gpu.nprobe = min(nprobe_of(wanted), self._nlist)
        depth = min(MOST_CANDIDATES, int(wanted.depth * wanted.widening))
        scores, rows = self._on_gpu.search(queries, depth)
        return masked(scores, rows, keep, min(wanted.depth, depth))


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
