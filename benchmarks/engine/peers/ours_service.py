"""Our service as `visualindex up` starts it, with its defaults: two gateways, two replicas of one shard, Postgres.

The data set's rows are written through the catalog, for the service takes pictures and no vectors. Single inserts are small
pictures sent to a gateway, which decodes them and, unless it is the gateway that was asked for their vectors before, encodes
them: more than its peers do, who are given vectors. Searches are plain ones, but for a column of its own: there each
carries the token of the write before, as a caller's does who wants to see what it wrote.
"""

import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np

from benchmarks.engine import our_service
from benchmarks.engine.peer import EF_CONSTRUCTION, M
from benchmarks.engine.vectors import Dataset, Numbers, Vectors
from benchmarks.photographs import mosaic
from benchmarks.stack import Stack

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
        our_service.fill(stack, data)

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
        """Send the picture that has this vector to a gateway."""
        picture = self._pictures[vector.tobytes()]
        written = self._http.post(
            "/api/images",
            data={"image_id": str(_image_id(row)), "category": f"c{label}"},
            files={"image": ("picture.jpg", picture, "image/jpeg")},
        ).raise_for_status()
        self._token = written.json()["token"]

    def delete(self, row: int) -> None:
        """Have a gateway delete an image."""
        self._http.delete(f"/api/images/{_image_id(row)}").raise_for_status()

    def spare(self, count: int) -> Vectors:
        """Vectors of so many pictures that the index does not hold."""
        pictures = [mosaic(seed) for seed in range(count)]
        vectors = np.array([self._embedding(picture) for picture in pictures], np.float32)
        self._pictures = {
            vector.tobytes(): picture for vector, picture in zip(vectors, pictures, strict=True)
        }
        return vectors

    def _embedding(self, picture: bytes) -> list[float]:
        files = {"image": ("picture.jpg", picture, "image/jpeg")}
        return self._http.post("/internal/embedding", files=files).raise_for_status().json()["vector"]  # type: ignore[no-any-return]

    def processes(self) -> Sequence[int]:
        """Everything that runs: Ray and Postgres included."""
        if self._stack is None:
            return []
        return [process.pid for group in self._stack.processes().values() for process in group]

    def close(self) -> None:
        """End it."""
        if self._stack is not None:
            self._stack.stop()


def _image_id(row: int) -> uuid.UUID:
    return uuid.UUID(int=row + 1)


def _rows(response: httpx.Response) -> Numbers:
    hits = response.raise_for_status().json()["hits"]
    return np.array([uuid.UUID(hit["image_id"]).int - 1 for hit in hits], np.int64)
