"""A local service whose index holds a data set's vectors, written through the catalog as if they had been ingested."""

import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil

from benchmarks.engine.vectors import TOP, Dataset, Numbers, Vectors
from benchmarks.stack import Role, Stack, cpu_seconds
from visualindex.catalog import Catalog, ImageWrite
from visualindex.spec import IndexSpec, VisualIndex
from visualindex_serving.folding import due

SEARCH = "/api/search"
_AT_ONCE = 1_000
_HELD_S = 1_800.0
_LOOK_S = 3.0


@contextmanager
def service(port: int, spec: dict[str, Any]) -> Iterator[Stack]:
    """A service of its own in a temporary folder, ended and cleared away afterwards."""
    with tempfile.TemporaryDirectory(prefix="vi-engine-") as folder:
        stack = Stack(Path(folder) / "state", port, spec)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(stack.state.sockets, ignore_errors=True)


def fill(stack: Stack, data: Dataset) -> None:
    """Write all rows, and wait until every replica holds them, a generation of them is served, and nothing is built."""
    asyncio.run(_written(stack, data, about(stack)["fingerprint"]))
    stack.until(lambda: holds(stack, len(data.vectors)), "every replica holds the rows", _HELD_S)
    stack.until(lambda: shards_rest(stack), "the shards have built their graphs", _HELD_S)
    stack.until(lambda: folded(stack, len(data.vectors)), "a generation of the rows is served", _HELD_S)


async def _written(stack: Stack, data: Dataset, fingerprint: str) -> None:
    catalog = await Catalog.open(stack.dsn, application_name="benchmark")
    try:
        for start in range(0, len(data.vectors), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(data.vectors)))
            writes = [write(n, data.vectors[n], int(data.labels[n]), fingerprint) for n in rows]
            await catalog.put_images(stack.name, writes)
    finally:
        await catalog.close()


def write(number: int, vector: Vectors, label: int, fingerprint: str) -> ImageWrite:
    """A row as an image without a picture; its identifier is its number plus one."""
    return ImageWrite(
        image_id=uuid.UUID(int=number + 1),
        content_digest=number.to_bytes(32, "big"),
        media_type="image/jpeg",
        width=1600,
        height=1200,
        size_bytes=1,
        embeddings={(0, fingerprint): vector},
        category=f"c{label}",
    )


def about(stack: Stack) -> dict[str, Any]:
    """What the service says of its index."""
    told: dict[str, Any] = httpx.get(f"{stack.url}/api/indexes/{stack.name}", trust_env=False).json()
    return told


def holds(stack: Stack, rows: int) -> bool:
    """Whether every replica that has reported holds so many rows."""
    replicas = about(stack)["replicas"]
    return bool(replicas) and all(replica["rows"] >= rows for replica in replicas)


def folded(stack: Stack, rows: int) -> bool:
    """Whether no job is under way or due and, where there are enough rows for one, a generation is active.

    The first one is built of what was there when it began: what came meanwhile makes the next one due.
    """
    index = f"{stack.url}/api/indexes/{stack.name}"
    jobs, generations = (
        httpx.get(f"{index}/{part}", trust_env=False).json() for part in ("jobs", "generations")
    )
    active = rows <= IndexSpec().flat_below or any(one["state"] == "active" for one in generations)
    return (
        active
        and all(one["state"] not in ("queued", "running") for one in jobs)
        and not asyncio.run(_due(stack))
    )


async def _due(stack: Stack) -> bool:
    catalog = await Catalog.open(stack.dsn, max_connections=1, application_name="benchmark")
    try:
        return due(VisualIndex.model_validate(stack.document), await catalog.replica_loads(stack.name))
    finally:
        await catalog.close()


def shards_rest(stack: Stack) -> bool:
    """Whether the shards use less than a tenth of a core: no graph is being built."""
    shards: dict[Role, list[psutil.Process]] = {"shard": stack.of("shard")}
    before, began = sum(cpu_seconds(shards).values()), time.monotonic()
    time.sleep(_LOOK_S)
    return sum(cpu_seconds(shards).values()) - before < 0.1 * (time.monotonic() - began)


def bodies(queries: Vectors, asked: Numbers | None = None) -> Sequence[bytes]:
    """Search requests, one for each query; `asked` are the categories they ask for."""
    requests: list[dict[str, Any]] = [
        {"query": {"vector": q.tolist()}, "limit": TOP} for q in rounded(queries)
    ]
    if asked is not None:
        for request, label in zip(requests, asked.tolist(), strict=True):
            request["filter"] = {"eq": {"category": f"c{label}"}}
    return [orjson.dumps(request) for request in requests]


def rounded(queries: Vectors) -> Vectors:
    """Six digits: what a client sends who does not send noise."""
    return np.round(queries.astype(np.float64), 6)  # type: ignore[return-value]
