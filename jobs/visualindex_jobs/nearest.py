"""The exact nearest images of some queries among rows that come in parts, in memory of the queries alone."""

import numpy as np
from numpy.typing import NDArray

from visualindex.catalog import Rows


class Nearest:
    """The first `k` of each of `queries`, float32[q, d] L2-normalised, among the rows that were seen."""

    def __init__(self, queries: NDArray[np.float32], k: int) -> None:
        self._queries = queries
        self._k = k
        self.scores = np.empty((len(queries), 0), np.float32)
        """Cosines, float32[q, at most k], best first."""
        self.ids = np.empty((len(queries), 0, 16), np.uint8)
        """Image ids, uint8[q, at most k, 16]."""
        self.codes = np.empty((len(queries), 0, queries.shape[1]), np.float16)
        """Their vectors as the catalog has them, float16[q, at most k, d]."""

    def see(self, rows: Rows) -> None:
        """Take some rows in."""
        vectors = rows.vectors.astype(np.float32)
        norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        scores = self._queries @ (vectors / norms).T
        places = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        some = np.take_along_axis(scores, places, axis=1), rows.ids[places], rows.vectors[places]
        merged = np.concatenate([self.scores, some[0]], axis=1)
        best = np.argsort(-merged, axis=1, kind="stable")[:, : self._k]
        self.scores = np.take_along_axis(merged, best, axis=1)
        rows_of = np.arange(len(self._queries))[:, None]
        self.ids = np.concatenate([self.ids, some[1]], axis=1)[rows_of, best]
        self.codes = np.concatenate([self.codes, some[2]], axis=1)[rows_of, best]
