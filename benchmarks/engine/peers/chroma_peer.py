"""Chroma's server, as `chroma run` starts it, searched over HTTP."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chromadb
import httpx
import numpy as np

from benchmarks.engine.peer import EF_CONSTRUCTION, EFFORTS, M
from benchmarks.engine.vectors import TOP, Dataset, Numbers, Vectors

_AT_ONCE = 2_000
_START_S = 60.0


class Engine:
    """One collection."""

    name = "Chroma server"
    version = chromadb.__version__
    note = f"HNSW float32, max_neighbors {M}; metadata filter; SQLite log, as shipped"
    efforts: Sequence[int] = EFFORTS

    def __init__(self, folder: Path) -> None:
        self._port = _free_port()
        self._effort = EFFORTS[0]
        self._path = folder / "chroma"
        self.url = f"http://127.0.0.1:{self._port}"
        self._http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self._start()

    def _start(self) -> None:
        chroma = str(Path(sys.executable).with_name("chroma"))
        place = ["--path", str(self._path), "--host", "127.0.0.1", "--port", str(self._port)]
        self._server = subprocess.Popen(
            [chroma, "run", *place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._client = self._connected()

    def _connected(self) -> Any:
        until = time.monotonic() + _START_S
        while True:
            try:
                return chromadb.HttpClient("127.0.0.1", self._port)
            except Exception:
                if time.monotonic() > until or self._server.poll() is not None:
                    raise
                time.sleep(0.2)

    def _stop(self) -> None:
        self._server.terminate()
        self._server.wait(20)

    def build(self, data: Dataset) -> None:
        """Add batches; it indexes as they come."""
        hnsw = {
            "space": "ip",
            "ef_construction": EF_CONSTRUCTION,
            "max_neighbors": M,
            "ef_search": EFFORTS[0],
        }
        self._collection = self._client.create_collection(
            "images", configuration={"hnsw": hnsw}, embedding_function=None
        )
        for at in range(0, len(data.vectors), _AT_ONCE):
            rows = range(at, min(at + _AT_ONCE, len(data.vectors)))
            self._collection.add(
                ids=[str(n) for n in rows],
                embeddings=data.vectors[at : rows.stop],
                metadatas=[{"label": int(data.labels[n])} for n in rows],
            )

    def tune(self, effort: int) -> None:
        """Set ef_search, which a server takes from the collection when it loads it."""
        if effort != self._effort:
            self._collection.modify(configuration={"hnsw": {"ef_search": effort}})
            self._stop()
            self._start()
            self._collection = self._client.get_collection("images", embedding_function=None)
            self._effort = effort

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query over HTTP."""
        labels = None if label is None else np.array([label])
        path, bodies = self.request(query[None], labels)
        answer = self._http.post(path, content=bodies[0]).raise_for_status().json()
        return np.array([int(n) for n in answer["ids"][0]][:k], np.int64)

    def request(self, queries: Vectors, labels: Numbers | None) -> tuple[str, Sequence[bytes]]:
        """Bodies of the query route."""
        base = "/api/v2/tenants/default_tenant/databases/default_database/collections"
        bodies = []
        for n, query in enumerate(np.round(queries.astype(np.float64), 6).tolist()):
            body: dict[str, Any] = {"query_embeddings": [query], "n_results": TOP, "include": ["distances"]}
            if labels is not None:
                body["where"] = {"label": int(labels[n])}
            bodies.append(json.dumps(body).encode())
        return f"{base}/{self._collection.id}/query", bodies

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Add one."""
        self._collection.add(ids=[str(row)], embeddings=vector[None], metadatas=[{"label": label}])

    def delete(self, row: int) -> None:
        """Delete one."""
        self._collection.delete(ids=[str(row)])

    def processes(self) -> Sequence[int]:
        """The server's."""
        return [self._server.pid]

    def close(self) -> None:
        """End the server."""
        self._stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
