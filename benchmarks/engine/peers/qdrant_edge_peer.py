"""Qdrant's edge library: a shard of the server in this process, with its write-ahead log."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HnswIndexConfig,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    QueryRequest,
    SearchParams,
    UpdateOperation,
)

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors

_AT_ONCE = 1_000
_SCANNED_KB = 10_000


class Engine:
    """One shard, one segment, a keyword index of integers on the label."""

    name = "Qdrant edge"
    version = version("qdrant-edge-py")
    note = f"float32, m {M}, one segment; payload index on the label; write-ahead log as shipped"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shard"
        self._folder.mkdir()
        self._effort = EFFORTS[0]

    def build(self, data: Dataset) -> None:
        """Upsert batches, then let the optimizer merge and index them."""
        hnsw = HnswIndexConfig(M, EF_CONSTRUCTION, _SCANNED_KB, max_indexing_threads=THREADS)
        vectors = EdgeVectorParams(data.vectors.shape[1], Distance.Dot, hnsw_config=hnsw)
        optimizers = EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1_000)
        self._shard = EdgeShard.create(
            str(self._folder), EdgeConfig(vectors=vectors, hnsw_config=hnsw, optimizers=optimizers)
        )
        self._shard.update(UpdateOperation.create_field_index("label", PayloadSchemaType.Integer))
        for at in range(0, len(data.vectors), _AT_ONCE):
            rows = range(at, min(at + _AT_ONCE, len(data.vectors)))
            points = [Point(n, data.vectors[n].tolist(), {"label": int(data.labels[n])}) for n in rows]
            self._shard.update(UpdateOperation.upsert_points(points))
        while self._shard.optimize():
            pass
        self._shard.flush()

    def tune(self, effort: int) -> None:
        """Set hnsw_ef."""
        self._effort = effort

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query."""
        keep = None if label is None else Filter(must=[FieldCondition("label", match=MatchValue(label))])
        wanted = QueryRequest(
            k, query=Query.Nearest(query.tolist()), filter=keep, params=SearchParams(hnsw_ef=self._effort)
        )
        return np.array([hit.id for hit in self._shard.query(wanted)], np.int64)

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Upsert one point."""
        self._shard.update(UpdateOperation.upsert_points([Point(row, vector.tolist(), {"label": label})]))

    def delete(self, row: int) -> None:
        """Delete one point."""
        self._shard.update(UpdateOperation.delete_points([row]))

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Close the shard."""
        self._shard.close()
