"""How long an acknowledged write takes until every replica's searches show it.

Replicas are told apart by the name that `explain` gives. Polls carry no token, so nobody waits for the write on their
behalf. A write is visible at a replica when a poll answered by that replica showed it; the time runs from the
acknowledgement to that poll's answer, and the slowest replica counts.
"""

import asyncio
import contextlib
import itertools
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from benchmarks.photographs import distinct, mosaic

_POLLS_AT_ONCE = 2
_LIMIT_S = 30.0
_SAME = 0.999
_SEARCH_PERIOD_S = 0.2
_SEED = 5_000


@dataclass
class Freshness:
    """Milliseconds from acknowledgement to visibility at every replica, by kind of write."""

    replicas: int
    taken_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def all_ms(self) -> list[float]:
        """Of every write."""
        return list(itertools.chain.from_iterable(self.taken_ms.values()))

    def percentile(self, p: float) -> float:
        """A percentile over all writes."""
        return float(np.percentile(self.all_ms, p))


@dataclass
class _Probe:
    """A search that tells whether a write is visible."""

    image_id: uuid.UUID
    vector: list[float]
    present: bool
    revision: int | None = None

    def request(self) -> dict[str, Any]:
        revision = {} if self.revision is None else {"filter": {"eq": {"metadata.revision": self.revision}}}
        return {"query": {"vector": self.vector}, "limit": 3, "explain": True, **revision}

    def seen(self, answer: dict[str, Any]) -> bool:
        hits = {hit["image_id"]: hit["score"] for hit in answer["hits"]}
        return bool(hits.get(str(self.image_id), 0.0) > _SAME) is self.present


async def measure(url: str, writes: int = 200, replicas: int = 2) -> Freshness:
    """Insert, replace, patch, erase and insert again in turn until `writes` writes are seen, while searches run.

    Raises TimeoutError when a write stays invisible at a replica for 30 s, RuntimeError when a request is refused.
    """
    found = Freshness(replicas)
    async with httpx.AsyncClient(base_url=url, timeout=_LIMIT_S, trust_env=False) as client:
        background = asyncio.create_task(_searches(client))
        try:
            for number in range(-(-writes // 5)):
                await _cycle(client, number, found, writes)
        finally:
            background.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await background
    return found


async def _searches(client: httpx.AsyncClient) -> None:
    """Searches by picture, so that the write does not travel through an idle service."""
    for number in itertools.count(10_000_000):
        await client.post("/api/search", files=_file(distinct(mosaic(_SEED), number)))
        await asyncio.sleep(_SEARCH_PERIOD_S)


async def _cycle(client: httpx.AsyncClient, number: int, found: Freshness, writes: int) -> None:
    image_id = uuid.uuid4()
    pictures = [distinct(mosaic(_SEED + 2 * number + n), number) for n in (1, 2)]
    first, second = [await _vector(client, picture) for picture in pictures]
    path = f"/api/images/{image_id}"
    steps = [
        ("insert", _put(image_id, pictures[0], 0), _Probe(image_id, first, present=True)),
        ("replace", _put(image_id, pictures[1], 1), _Probe(image_id, second, present=True)),
        ("patch", _patch(path, 2), _Probe(image_id, second, present=True, revision=2)),
        ("erase", {"method": "DELETE", "url": path}, _Probe(image_id, second, present=False)),
        ("insert again", _put(image_id, pictures[0], 3), _Probe(image_id, first, present=True)),
    ]
    for name, request, probe in steps:
        if len(found.all_ms) < writes:
            await _checked(client, **request)
            acknowledged = time.monotonic()
            taken = await _visible_ms(client, probe, acknowledged, found.replicas)
            found.taken_ms.setdefault(name, []).append(taken)


def _put(image_id: uuid.UUID, picture: bytes, revision: int) -> dict[str, Any]:
    data = {"image_id": str(image_id), "metadata": json.dumps({"revision": revision})}
    return {"method": "POST", "url": "/api/images", "data": data, "files": _file(picture)}


def _patch(path: str, revision: int) -> dict[str, Any]:
    return {"method": "PATCH", "url": path, "json": {"metadata": {"revision": revision}}}


def _file(picture: bytes) -> dict[str, Any]:
    return {"image": ("picture.jpg", picture, "image/jpeg")}


async def _vector(client: httpx.AsyncClient, picture: bytes) -> list[float]:
    answer = await _checked(client, method="POST", url="/internal/embedding", files=_file(picture))
    vector: list[float] = answer["vector"]
    return vector


async def _checked(client: httpx.AsyncClient, **request: Any) -> dict[str, Any]:
    response = await client.request(**request)
    if response.is_error:
        raise RuntimeError(f"{request['method']} {request['url']} answers {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer


async def _visible_ms(client: httpx.AsyncClient, probe: _Probe, acknowledged: float, replicas: int) -> float:
    """Poll until `replicas` different replicas have shown the write."""
    seen: dict[str, float] = {}

    async def poll() -> None:
        while len(seen) < replicas:
            answer = await _checked(client, method="POST", url="/api/search", json=probe.request())
            replica = answer["explain"]["shards"][0]["replica"]
            if probe.seen(answer):
                seen.setdefault(replica, time.monotonic())

    async with asyncio.timeout(_LIMIT_S):
        await asyncio.gather(*(poll() for _ in range(_POLLS_AT_ONCE)))
    return (max(seen.values()) - acknowledged) * 1000
