"""Activations and rollbacks under searches and writes: no request fails, none is answered of two generations."""

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from visualindex.building import build_generation
from visualindex.catalog import Catalog
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex
from visualindex_serving import shard as replicas
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard import ShardReplica

from .conftest import NONE, Served, put, spec_document

SHARDS = 2
STILL = range(12)
"""Images that nobody touches: every search finds all of them."""
INDEX = {"shards": SHARDS, "keepGenerations": 3, "pollIntervalMs": 20, "fold": "never"}
LIMITS = {"searchTimeoutMs": 30_000, "writeTimeoutMs": 60_000}
"""A busy machine is slow, and that is no failure."""
ACTIVATIONS, ROLLBACKS = 20, 5


class Load:
    """Searches and writes that go on, and what must be so when they have ended."""

    def __init__(self, served: Served, still: list[dict[str, Any]]) -> None:
        self.served = served
        self.still = {one["image_id"] for one in still}
        self.some = still[0]["image_id"]
        self.stored: dict[str, int] = {}
        self.gone: set[str] = set()
        self.failures: list[str] = []
        self.searches = self.writes = 0
        self.generations: set[str] = set()
        self.ended = False

    async def search(self, query: dict[str, Any]) -> dict[str, Any]:
        asked = {"query": {"image_id": self.some}, "include_self": True, "limit": 100, **query}
        answer = await self.served.client.post("/api/search", json=asked)
        self.searches += 1
        if answer.status_code != 200 or not answer.json()["complete"]:
            self.failures.append(f"search {query}: {answer.status_code} {answer.text[:300]}")
            return {"hits": [], "generation": ""}
        found: dict[str, Any] = answer.json()
        self.generations.add(found["generation"])
        return found

    async def searching(self, query: dict[str, Any]) -> None:
        while not self.ended:
            found = await self.search(query)
            if not found["generation"]:
                continue
            ids = [hit["image_id"] for hit in found["hits"]]
            if len(set(ids)) < len(ids) or not self.still <= set(ids):
                self.failures.append(f"search {query}: {len(self.still - set(ids))} are missing")

    async def writing(self, seed: int) -> None:
        chance = random.Random(seed)
        own = [(await put(self.served, 1000 * seed + n))["image_id"] for n in range(4)]
        for number in itertools.count(1):
            if self.ended:  # a write that was cut off would be neither there nor not there
                return
            chosen = chance.choice(own)
            if len(own) > 2 and chance.random() < 0.1:
                own.remove(chosen)
                token = await self.write("DELETE", f"/api/images/{chosen}")
                self.stored.pop(chosen, None)
                self.gone.add(chosen)
                own.append((await put(self.served, 1000 * seed + 10 + number))["image_id"])
            else:
                body = {"metadata": {"revision": number}}
                token = await self.write("PATCH", f"/api/images/{chosen}", json=body)
                self.stored[chosen] = number
            await self.read_own_write(chosen, token)

    async def write(self, method: str, path: str, **body: Any) -> str:
        answer = await self.served.client.request(method, path, **body)
        self.writes += 1
        if answer.status_code != 200:
            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return ""
        return str(answer.json()["token"])

    async def read_own_write(self, image: str, token: str) -> None:
        found = await self.search({"token": token} if token else {"consistency": "strong"})
        shown = {hit["image_id"]: hit["metadata"].get("revision") for hit in found["hits"]}
        if shown.get(image) != self.stored.get(image):
            wanted, seen = self.stored.get(image), shown.get(image)
            self.failures.append(f"{image} is at {wanted}, a search with its token shows {seen}")


@contextlib.asynccontextmanager
async def under(load: Load) -> AsyncIterator[None]:
    """Three searchers, each of its own kind, and two writers."""
    queries: list[dict[str, Any]] = [{}, {"sort": {"field": "metadata.revision"}}, {"facets": ["category"]}]
    async with asyncio.TaskGroup() as tasks:
        for query in queries:
            tasks.create_task(load.searching(query))
        for seed in (1, 2):
            tasks.create_task(load.writing(seed))
        try:
            yield
        finally:
            load.ended = True


def overhear(replica: ShardReplica, heard: dict[int, list[tuple[ShardQuery, str]]]) -> None:
    """Note which generation each query was answered of."""
    search = replica.search

    async def searched(query: ShardQuery) -> ShardAnswer:
        answer = await search(query)
        heard[id(query)].append((query, answer.generation))
        return answer

    replica.search = searched  # type: ignore[method-assign]


async def test_twenty_activations_and_five_rollbacks_fail_nobody(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_LOOK_S", 0.05)
    document = spec_document(index=INDEX, limits=LIMITS)
    resource = VisualIndex.model_validate(document)
    heard: dict[int, list[tuple[ShardQuery, str]]] = defaultdict(list)
    async with serve(document) as served, contextlib.AsyncExitStack() as stack:
        catalog = await Catalog.open(served.dsn, max_connections=2)
        stack.push_async_callback(catalog.close)
        store = open_store(resource.spec.storage, default_folder=served.state / "objects", credentials=NONE)
        stack.push_async_callback(store.close)
        load = Load(served, [await put(served, seed) for seed in STILL])
        for shard in range(SHARDS):
            overhear(await served.shards.replica("things", shard), heard)
        activations = rollbacks = 0
        async with under(load):
            while activations < ACTIVATIONS:
                built = await build_generation(catalog, store, resource, tmp_path / "scratch")
                before = load.writes
                await post(served, f"generations/{built.generation}/activate", force=True)  # no job judged it
                activations += 1
                if activations % 4 == 0:
                    await post(served, "rollback")
                    rollbacks += 1
                async with asyncio.timeout(60):
                    while load.writes == before:  # noqa: ASYNC110 - the next generation is of something new
                        await asyncio.sleep(0.01)
                await catalog.retire_generations("things", 3)
        assert load.failures == []
        assert rollbacks == ROLLBACKS
        assert len(load.generations) > ROLLBACKS
        assert load.searches > 100
        assert load.writes > 20
        mixed = [of for of in heard.values() if len({(q.generation, g) for q, g in of}) > 1]
        assert mixed == []
        assert all(query.generation == of for queries in heard.values() for query, of in queries)
        await verify(load)
        await post(served, "rollback")
        await verify(load)


async def post(served: Served, what: str, **asked: Any) -> None:
    answer = await served.client.post(f"/api/indexes/things/{what}", json={"wait_s": 30, **asked})
    assert (answer.status_code, answer.json().get("state")) == (200, "active"), answer.text


async def verify(load: Load) -> None:
    """Nothing lost, nothing resurrected."""
    found = await load.search({"consistency": "strong"})
    shown = {hit["image_id"]: hit["metadata"].get("revision") for hit in found["hits"]}
    assert load.failures == []
    assert not shown.keys() & load.gone
    assert {image: shown.get(image) for image in load.stored} == load.stored
