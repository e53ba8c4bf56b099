"""LanceDB: a table of files with IVF_HNSW_SQ in one partition, refined from the exact vectors."""

import os
from collections.abc import Sequence
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, HnswSq

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors

_REFINED = 2


class Engine:
    """One table, a bitmap index on the label. Rows inserted after the build are scanned, as it ships."""

    name = "LanceDB"
    version = lancedb.__version__
    note = f"IVF_HNSW_SQ, 1 partition, m {M}, refine factor {_REFINED}; bitmap index on the label; files, durable"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._connection = lancedb.connect(str(folder / "lance"))
        self._effort = EFFORTS[0]

    def build(self, data: Dataset) -> None:
        """Write the table and both indexes."""
        rows = _rows(np.arange(len(data.vectors)), data.vectors, data.labels)
        self._table = self._connection.create_table("images", rows)
        graph = HnswSq(distance_type="dot", num_partitions=1, m=M, ef_construction=EF_CONSTRUCTION)
        self._table.create_index("vector", config=graph)
        self._table.create_index("label", config=Bitmap())

    def tune(self, effort: int) -> None:
        """Set ef."""
        self._effort = effort

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query, filtered before the search."""
        asked = self._table.search(query, vector_column_name="vector").distance_type("dot").limit(k)
        asked = asked.nprobes(1).ef(max(self._effort, k * _REFINED)).refine_factor(_REFINED).select(["id"])
        if label is not None:
            asked = asked.where(f"label = {label}", prefilter=True)
        found: Numbers = asked.to_arrow()["id"].to_numpy()
        return found

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Add one row."""
        self._table.add(_rows(np.array([row]), vector[None], np.array([label])))

    def delete(self, row: int) -> None:
        """Delete one row."""
        self._table.delete(f"id = {row}")

    def processes(self) -> Sequence[int]:
        """This one."""
        return [os.getpid()]

    def close(self) -> None:
        """Nothing to end."""


def _rows(ids: Numbers, vectors: Vectors, labels: Numbers) -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"id": pa.array(ids), "label": pa.array(labels), "vector": lists})
