"""Our engine in process, as a shard replica serves it: a generation's segment, mapped and tuned, and fresh rows over it."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.engine.measure import TARGET
from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import TOP, Dataset, Numbers, Vectors
from visualindex.ann import Base, Deletes, Hits, ShardIndex, Upserts, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.families import Effort, Parameters, build_and_tune, held_out_last
from visualindex.ann.segment import VECTORS
from visualindex.filters import parse_filter
from visualindex.identity import BUCKETS, buckets_of
from visualindex.spec.models import HnswSpec, IndexSpec

_MEMORY = 1 << 40
_HNSW = HnswSpec(m=M, ef_construction=EF_CONSTRUCTION)


class Engine:
    """ShardIndex over one segment."""

    name = "VisualIndex"
    version = version("visualindex")
    note = f"one segment: HNSW float16, M {M}, effort as its build chose it; filter language; durable by the catalog"
    efforts: Sequence[int] = EFFORTS
    """Once built, only what the build chose."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, data: Dataset) -> None:
        """Write the segment, its graph built on two threads, and open it."""
        self.take(0, data.vectors, data.labels)

    def take(self, first: int, vectors: Vectors, labels: Numbers) -> None:
        """Hold rows that are numbered from `first`."""
        folder = self._folder / f"segment-{first}"
        if not folder.exists():
            folder.mkdir(parents=True)
            _write(folder, _ids(first, len(vectors)), vectors, labels)
        segment = open_segment(folder, vectors.shape[1])
        assert segment.ann is not None
        assert segment.ann.effort is not None
        assert segment.ann.effort.ef_search is not None
        self._ann, self.efforts = segment.ann, (segment.ann.effort.ef_search,)
        self._index = ShardIndex(
            vectors.shape[1],
            flat_below=IndexSpec().flat_below,
            hnsw=_HNSW,
            memory_limit=_MEMORY,
            bases=[Base.of(segment, range(BUCKETS))],
        )

    def tune(self, effort: int) -> None:
        """Set efSearch."""
        self._ann.effort = Effort(ef_search=effort)

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
        self._index.apply(Upserts(_ids(row, 1), vector[None], [_about(row, label)], np.ones(1, np.int64)))

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
    numbers: Numbers = np.frombuffer(hits.ids[0, : hits.counts[0]].tobytes(), ">i8")[1::2]
    return numbers


def _write(folder: Path, ids: np.ndarray, vectors: Vectors, labels: Numbers) -> None:
    """What a build writes of these rows."""
    order = held_out_last(ids)
    ids = ids[order]
    codes = half.encode(vectors[order])
    codes.tofile(folder / VECTORS)
    numbers = ids[:, 8:].copy().view(">i8")[:, 0]
    about = zip(numbers.tolist(), labels[order].tolist(), strict=True)
    attributes = AttributeColumns.build(fields(_about(row, label)) for row, label in about)
    ann, _ = build_and_tune("hnsw-fp16", codes, TARGET, Parameters(hnsw=_HNSW), k=TOP, threads=THREADS)
    versions = np.ones(len(ids), np.int64)
    write_segment(folder, ids=ids, versions=versions, buckets=buckets_of(ids), attributes=attributes, ann=ann)


def _about(row: int, label: int) -> dict[str, object]:
    return {"category": f"c{label}", "key": f"k{row}", "metadata": {}}


def _ids(first: int, count: int) -> np.ndarray:
    """Row numbers as ids: uint8[count, 16]."""
    ids = np.zeros((count, 16), np.uint8)
    ids[:, 8:] = np.arange(first, first + count, dtype=">i8")[:, None].view(np.uint8)
    return ids
