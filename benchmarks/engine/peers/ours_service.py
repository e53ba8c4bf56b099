"""Our service as `visualindex up` starts it, with its defaults: two gateways, two replicas of one shard, Postgres.

Writes go through the catalog and are acknowledged by its commit. Searches are plain ones, but for a column of its own:
there each carries the token of the write before, as a caller's does who wants to see what it wrote.
"""

import asyncio
import threading
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np

from benchmarks.engine import our_service
from benchmarks.engine.peer import EF_CONSTRUCTION, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors
from benchmarks.stack import Stack
from visualindex.catalog import Catalog

T = TypeVar("T")

_PORT = 8450
_EFFORT = 96


class Engine:
    """One index of one shard. Its effort is a setting of the index, not of a search: what ships is measured."""

    name = "VisualIndex service"
    version = version("visualindex")
    note = f"`visualindex up`: 2 gateways, 2 replicas of 1 shard, HNSW float16, M {M}; Postgres with fsync"
    efforts: Sequence[int] = (_EFFORT,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack: Stack | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def build(self, data: Dataset) -> None:
        """Start it, write all rows through the catalog, wait for the graphs."""
        hnsw = {"m": M, "efConstruction": EF_CONSTRUCTION, "efSearch": _EFFORT}
        spec = {
            "encoder": {"dimension": data.vectors.shape[1]},
            "index": {"hnsw": hnsw, "memoryPerShard": "8Gi"},
        }
        self._stack = stack = Stack(self._folder / "state", _PORT, spec)
        stack.start()
        self.url = stack.url
        self._http = httpx.Client(base_url=stack.url, timeout=60, trust_env=False)
        self._fingerprint = our_service.about(stack)["fingerprint"]
        our_service.fill(stack, data)
        self._catalog = self._done(Catalog.open(stack.dsn, application_name="benchmark"))

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60)

    def tune(self, effort: int) -> None:
        """It is what it is."""

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """One query over HTTP."""
        path, bodies = self.request(query[None], None if label is None else np.array([label]))
        headers = {"Content-Type": "application/json"}
        return _rows(self._http.post(path, content=bodies[0], headers=headers))[:k]

    def search_own(self, query: Vectors, k: int) -> Numbers:
        """A search with the last write's token: it is answered by a replica that has seen the write."""
        body = {"query": {"vector": query.tolist()}, "limit": k, "token": self._token}
        return _rows(self._http.post(our_service.SEARCH, json=body))

    def request(self, queries: Vectors, labels: Numbers | None) -> tuple[str, Sequence[bytes]]:
        """Bodies of the search route."""
        return our_service.SEARCH, our_service.bodies(queries, labels)

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Write one image and commit."""
        assert self._stack is not None
        write = our_service.write(row, vector, label, self._fingerprint)
        self._token = str(self._done(self._catalog.put_images(self._stack.name, [write]))[0].token)

    def delete(self, row: int) -> None:
        """Delete one image and commit."""
        assert self._stack is not None
        self._done(self._catalog.delete_image(self._stack.name, uuid.UUID(int=row + 1)))

    def processes(self) -> Sequence[int]:
        """Everything that runs: Ray and Postgres included."""
        if self._stack is None:
            return []
        return [process.pid for group in self._stack.processes().values() for process in group]

    def close(self) -> None:
        """End it."""
        if self._stack is not None:
            if hasattr(self, "_catalog"):
                self._done(self._catalog.close())
            self._stack.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)


def _rows(response: httpx.Response) -> Numbers:
    hits = response.raise_for_status().json()["hits"]
    return np.array([uuid.UUID(hit["image_id"]).int - 1 for hit in hits], np.int64)
