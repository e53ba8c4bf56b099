"""Our engine in process: what one shard replica holds. The seam to `visualindex.ann` is here alone."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors
from visualindex.ann import Deletes, Hits, ShardIndex, Upserts
from visualindex.ann.maintenance import Plan
from visualindex.filters import parse_filter
from visualindex.spec.models import HnswSpec, IndexSpec

_AT_ONCE = 5_000
_MEMORY = 1 << 40
_LEAST_GRAPH = 1_000
_SCANNED = IndexSpec().flat_below


class Engine:
    """ShardIndex."""

    name = "VisualIndex"
    version = version("visualindex")
    note = f"ShardIndex: HNSW float16, M {M}; filter language; durable by the catalog, not in this row"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, data: Dataset) -> None:
        """Take in batches and build the graph over them on two threads."""
        self.take(0, data.vectors, data.labels)

    def take(self, first: int, vectors: Vectors, labels: Numbers) -> None:
        """Hold rows that are numbered from `first`."""
        self._index = ShardIndex(vectors.shape[1], flat_below=1 << 40, hnsw=_hnsw(), memory_limit=_MEMORY)
        rows = range(0, len(vectors), _AT_ONCE)
        self._index.load(
            _upserts(first + at, vectors[at : at + _AT_ONCE], labels[at : at + _AT_ONCE]) for at in rows
        )
        self._set(_LEAST_GRAPH, _hnsw())
        self._index.maintain(THREADS)

    def _set(self, flat_below: int, hnsw: HnswSpec) -> None:
        """Plans are set from outside, so that the load does not start a build of its own meanwhile."""
        self._index._plan = Plan(flat_below, hnsw)

    def tune(self, effort: int) -> None:
        """Set efSearch; up to as many survivors of a filter are scanned as the product scans."""
        self._set(min(_SCANNED, len(self._index) - 1), _hnsw(effort))

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """The filter is written as users write it, and parsed for each query."""
        return rows_of(self.hits(query, label, k))

    def hits(self, query: Vectors, label: int | None, k: int) -> Hits:
        """The engine's own answer."""
        tree = None if label is None else parse_filter({"eq": {"category": f"c{label}"}})
        return self._index.search(query[None], k, tree)

    @property
    def memory_bytes(self) -> int:
        """What the index says it holds."""
        return self._index.memory_bytes

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


def rows_of(hits: Hits) -> Numbers:
    """The row numbers of the hits of one query: int64[n]."""
    numbers: Numbers = hits.ids[0, : hits.counts[0], 8:].copy().view(">i8")[:, 0].astype(np.int64)
    return numbers


def _hnsw(effort: int = EFFORTS[0]) -> HnswSpec:
    return HnswSpec(m=M, ef_construction=EF_CONSTRUCTION, ef_search=effort)


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
