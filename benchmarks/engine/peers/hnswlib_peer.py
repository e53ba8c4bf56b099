"""hnswlib: labels by its filter callback into Python, which is what it has."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import hnswlib
import numpy as np

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors


class Engine:
    """HNSW over float32."""

    name = "hnswlib"
    version = version("hnswlib")
    note = f"float32, M {M}; label by filter callback in Python; not durable"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labels: list[int] = []

    def build(self, data: Dataset) -> None:
        """Add all vectors on two threads."""
        self._index = hnswlib.Index(space="ip", dim=data.vectors.shape[1])
        room = len(data.vectors) + len(data.spare)
        self._index.init_index(max_elements=room, ef_construction=EF_CONSTRUCTION, M=M)
        self._index.add_items(data.vectors, np.arange(len(data.vectors)), num_threads=THREADS)
        self._labels = data.labels.tolist()
        self._index.save_index(str(self._folder / "index.bin"))

    def tune(self, effort: int) -> None:
        """Set ef."""
        self._index.set_ef(effort)

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query on this thread. hnswlib raises when it finds fewer than k."""
        labels = self._labels
        keep = None if label is None else (lambda row: labels[row] == label)
        try:
            found: Numbers = self._index.knn_query(query, k=k, num_threads=1, filter=keep)[0][0].astype(
                np.int64
            )
        except RuntimeError:
            return np.zeros(0, np.int64)
        return found

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Add one."""
        self._index.add_items(vector[None], [row], num_threads=1)
        self._labels.append(label)

    def delete(self, row: int) -> None:
        """Mark it."""
        self._index.mark_deleted(row)

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Nothing to end."""
