"""USearch: its Python package has no filtered search."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import usearch
from usearch.index import Index

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors


class Engine:
    """HNSW over half precision, as it ships and as ours holds it."""

    name = "usearch"
    version = usearch.__version__
    note = f"float16, connectivity {M}; no filter in its Python package; not durable"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, data: Dataset) -> None:
        """Add all vectors on two threads."""
        self._index = Index(
            ndim=data.vectors.shape[1],
            metric="ip",
            dtype="f16",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        self._index.add(np.arange(len(data.vectors)), data.vectors, threads=THREADS)
        self._index.save(str(self._folder / "index.usearch"))

    def tune(self, effort: int) -> None:
        """Set the expansion of searches."""
        self._index.expansion_search = effort

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers | None:
        """One query on this thread."""
        if label is not None:
            return None
        found: Numbers = self._index.search(query, k, threads=1).keys.astype(np.int64)
        return found

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Add one."""
        self._index.add(row, vector, threads=1)

    def delete(self, row: int) -> None:
        """Remove it."""
        self._index.remove(row, threads=1)

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Nothing to end."""
