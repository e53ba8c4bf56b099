"""Faiss by itself: IndexHNSWFlat, ids are rows, deletes and labels are bitmaps of the caller's.

It cannot delete from a graph, so a deleted row is masked in every later search, as a caller without an engine would do.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors


class Engine:
    """HNSW over float32."""

    name = "faiss"
    version = faiss.__version__
    note = f"IndexHNSWFlat float32, M {M}; label and deletes by IDSelectorBitmap made per query; not durable"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labels = np.zeros(0, np.int64)
        self._alive = np.zeros(0, bool)
        self._deleted = False
        self._parameters = {"efSearch": EFFORTS[0]}

    def build(self, data: Dataset) -> None:
        """Add all vectors on two threads."""
        faiss.omp_set_num_threads(THREADS)
        self._index = faiss.IndexHNSWFlat(data.vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = EF_CONSTRUCTION
        self._index.add(data.vectors)
        self._labels, self._alive = data.labels, np.ones(len(data.vectors), bool)
        faiss.omp_set_num_threads(1)
        faiss.write_index(self._index, str(self._folder / "index.faiss"))

    def tune(self, effort: int) -> None:
        """Set efSearch."""
        self._parameters = {"efSearch": effort}

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """Search with a bitmap where one is needed."""
        of = faiss.SearchParametersHNSW  # type: ignore[attr-defined] # the wrapper makes it at run time
        parameters = of(**self._parameters)
        if label is not None or self._deleted:
            keep = self._alive if label is None else self._alive & (self._labels == label)
            bitmap = np.packbits(keep, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(keep), faiss.swig_ptr(bitmap))
            parameters = of(sel=selector, **self._parameters)
        found: Numbers = self._index.search(query[None], k, params=parameters)[1][0]
        return found[found >= 0]

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Add one; rows are numbered in order."""
        assert row == self._index.ntotal
        self._index.add(vector[None])
        self._labels = np.append(self._labels, label)
        self._alive = np.append(self._alive, True)

    def delete(self, row: int) -> None:
        """Mask it from now on."""
        self._alive[row] = False
        self._deleted = True

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Nothing to end."""
