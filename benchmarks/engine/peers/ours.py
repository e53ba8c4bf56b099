"""Our engine in process: what one shard replica holds. The seam to `visualindex.ann` is here alone."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors
from visualindex.ann import Deletes, ShardIndex, Upserts
from visualindex.filters import parse_filter
from visualindex.spec.models import HnswSpec

_AT_ONCE = 5_000
_MEMORY = 1 << 40


class Engine:
    """ShardIndex."""

    name = "VisualIndex"
    version = version("visualindex")
    note = f"ShardIndex: HNSW float16, M {M}; filter language; durable by the catalog, not in this row"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._version = 1

    def build(self, data: Dataset) -> None:
        """Take in batches and build the graph over them on two threads."""
        hnsw = HnswSpec(m=M, ef_construction=EF_CONSTRUCTION)
        self._index = ShardIndex(data.vectors.shape[1], flat_below=1 << 40, hnsw=hnsw, memory_limit=_MEMORY)
        rows = range(0, len(data.vectors), _AT_ONCE)
        self._index.load(
            _upserts(at, data.vectors[at : at + _AT_ONCE], data.labels[at : at + _AT_ONCE]) for at in rows
        )
        self._set(flat_below=1_000, hnsw=hnsw)
        self._index.maintain(THREADS)

    def _set(self, *, flat_below: int, hnsw: HnswSpec) -> None:
        self._index._plan = type(self._index._plan)(flat_below, hnsw)

    def tune(self, effort: int) -> None:
        """Set efSearch."""
        hnsw = HnswSpec(m=M, ef_construction=EF_CONSTRUCTION, ef_search=effort)
        self._set(flat_below=min(20_000, len(self._index) - 1), hnsw=hnsw)

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """The filter is written as users write it, and parsed for each query."""
        tree = None if label is None else parse_filter({"eq": {"category": f"c{label}"}})
        hits = self._index.search(query[None], k, tree)
        return hits.ids[0, : hits.counts[0], 8:].copy().view(">i8")[:, 0].astype(np.int64)

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Apply one upsert."""
        self._index.apply(_upserts(row, vector[None], np.array([label])))

    def delete(self, row: int) -> None:
        """Apply one delete."""
        self._index.apply(None, Deletes(_ids(row, 1)))

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Stop maintenance."""
        self._index.close()


def _ids(first: int, count: int) -> np.ndarray:
    """Row numbers as ids: uint8[count, 16]."""
    ids = np.zeros((count, 16), np.uint8)
    ids[:, 8:] = np.arange(first, first + count, dtype=">i8")[:, None].view(np.uint8)
    return ids


def _upserts(first: int, vectors: Vectors, labels: Numbers) -> Upserts:
    about = [
        {"category": f"c{label}", "key": f"k{first + n}", "metadata": {}}
        for n, label in enumerate(labels.tolist())
    ]
    return Upserts(_ids(first, len(vectors)), vectors, about, np.full(len(vectors), 1))
