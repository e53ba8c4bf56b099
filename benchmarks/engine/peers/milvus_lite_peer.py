"""Milvus Lite: the Milvus API over a server inside this process."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pymilvus import DataType, MilvusClient

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors

_AT_ONCE = 1_000
_NAME = "images"


class Engine:
    """One collection with HNSW and an inverted index on the label."""

    name = "Milvus Lite"
    version = version("milvus-lite")
    note = f"HNSW, M {M}; scalar index on the label; gRPC to its own process; files, durable"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._client = MilvusClient(str(folder / "milvus.db"))
        self._effort = EFFORTS[0]

    def build(self, data: Dataset) -> None:
        """Insert batches, flush, index, load."""
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("label", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=data.vectors.shape[1])
        self._client.create_collection(_NAME, schema=schema)
        for at in range(0, len(data.vectors), _AT_ONCE):
            rows = range(at, min(at + _AT_ONCE, len(data.vectors)))
            self._client.insert(_NAME, [_row(n, data.vectors[n], int(data.labels[n])) for n in rows])
        self._client.flush(_NAME)
        indexes = self._client.prepare_index_params()
        graph = {"M": M, "efConstruction": EF_CONSTRUCTION}
        indexes.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
        indexes.add_index("label", index_type="INVERTED")
        self._client.create_index(_NAME, indexes)
        self._client.load_collection(_NAME)

    def tune(self, effort: int) -> None:
        """Set ef."""
        self._effort = effort

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query."""
        keep = "" if label is None else f"label == {label}"
        parameters = {"metric_type": "IP", "params": {"ef": self._effort}}
        hits = self._client.search(_NAME, [query], filter=keep, limit=k, search_params=parameters)[0]
        return np.array([hit["id"] for hit in hits], np.int64)

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Insert one row."""
        self._client.insert(_NAME, [_row(row, vector, label)])

    def delete(self, row: int) -> None:
        """Delete one row."""
        self._client.delete(_NAME, ids=[row])

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Close the client."""
        self._client.close()


def _row(number: int, vector: Vectors, label: int) -> dict[str, object]:
    return {"id": number, "label": label, "vector": vector}
