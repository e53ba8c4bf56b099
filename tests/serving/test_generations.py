"""Generations seen from outside: built, activated under writes, rolled back, and never in the way of a search."""

import asyncio
from pathlib import Path
from typing import Any

from visualindex.building import Built, build_generation
from visualindex.catalog import Catalog
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex

from .conftest import NONE, Served, put, spec_document


async def build(served: Served, tmp_path: Path, **spec: Any) -> Built:
    resource = VisualIndex.model_validate(spec_document(**spec))
    catalog = await Catalog.open(served.dsn, max_connections=2)
    store = open_store(resource.spec.storage, default_folder=served.state / "objects", credentials=NONE)
    try:
        return await build_generation(catalog, store, resource, tmp_path / "scratch")
    finally:
        await store.close()
        await catalog.close()


async def activate(served: Served, generation: str) -> dict[str, Any]:
    answer = await served.client.post(
        f"/api/indexes/things/generations/{generation}/activate", json={"wait_s": 20}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def search(served: Served, written: dict[str, Any], **fields: Any) -> dict[str, Any]:
    query = {"query": {"image_id": written["image_id"]}, "include_self": True, "limit": 10, **fields}
    answer = await served.client.post("/api/search", json=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(found: dict[str, Any]) -> set[str]:
    return {hit["image_id"] for hit in found["hits"]}


async def test_a_generation_is_built_activated_and_rolled_back_and_every_write_stays(
    served: Served, tmp_path: Path
) -> None:
    written = [await put(served, seed) for seed in range(4)]
    assert (await search(served, written[0]))["generation"] == "live"
    first = await build(served, tmp_path)
    assert (first.images, first.recall, first.met) == (4, 1.0, True)

    assert (await activate(served, first.generation))["state"] == "active"
    found = await search(served, written[0])
    assert found["generation"] == first.generation
    assert ids(found) == {one["image_id"] for one in written}

    late = await put(served, 4)
    deleted = await served.client.delete(f"/api/images/{written[1]['image_id']}")
    assert deleted.status_code == 200
    found = await search(served, late, consistency="strong")
    assert ids(found) == {one["image_id"] for one in [*written, late]} - {written[1]["image_id"]}

    second = await build(served, tmp_path)
    assert second.generation != first.generation
    await activate(served, second.generation)
    latest = await put(served, 5)
    back = await served.client.post("/api/indexes/things/rollback", json={})
    assert back.json()["generation"] == first.generation
    found = await search(served, latest, consistency="strong")
    assert found["generation"] == first.generation
    assert ids(found) == {one["image_id"] for one in [*written, late, latest]} - {written[1]["image_id"]}


async def finished(served: Served, job: dict[str, Any], within_s: float = 60) -> dict[str, Any]:
    """The job once it has ended."""
    async with asyncio.timeout(within_s):
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = (await served.client.get(f"/api/indexes/things/jobs/{job['job_id']}")).json()
    return job


async def test_a_build_that_is_asked_for_ends_in_an_active_generation(served: Served) -> None:
    written = [await put(served, seed) for seed in range(3)]
    asked = await served.client.post("/api/indexes/things/generations", json={"activate": True})
    assert asked.status_code == 202
    job = await finished(served, asked.json())
    assert (job["state"], job["problem"]) == ("done", None)
    assert (job["result"]["images"], job["result"]["met"]) == (3, True)
    async with asyncio.timeout(20):
        found = await search(served, written[0])
        while found["generation"] == "live":
            found = await search(served, written[0])
    assert found["generation"] == job["result"]["generation"]
    (listed,) = (await served.client.get("/api/indexes/things/generations")).json()
    assert (listed["state"], listed["images"], listed["families"]) == ("active", 3, ["flat"])


async def test_a_second_build_waits_for_nobody_and_is_the_first(served: Served) -> None:
    await put(served, 0)
    first, again = [
        (await served.client.post("/api/indexes/things/generations", json={})).json() for _ in range(2)
    ]
    assert first["job_id"] == again["job_id"]
    await finished(served, first)


async def test_what_does_not_exist_or_is_in_use_is_refused(served: Served, tmp_path: Path) -> None:
    await put(served, 0)
    generations = "/api/indexes/things/generations"
    assert (await served.client.post("/api/indexes/things/rollback", json={})).status_code == 409
    missing = await served.client.post(f"{generations}/0123456789abcdef/activate", json={})
    assert missing.status_code == 404
    built = await build(served, tmp_path)
    await search(served, await put(served, 1))
    await activate(served, built.generation)
    refused = await served.client.delete(f"{generations}/{built.generation}")
    assert (refused.status_code, refused.json()["type"].rsplit("/")[-1]) == (409, "conflict")


async def test_the_spec_can_pin_a_generation(serve: Any, tmp_path: Path) -> None:
    pinned = "0123456789abcdef"
    async with serve(spec_document(generation=pinned)) as served:
        await put(served, 0)
        built = await build(served, tmp_path)
        refused = await served.client.post(
            f"/api/indexes/things/generations/{built.generation}/activate", json={}
        )
        assert refused.status_code == 409
        assert pinned in refused.json()["detail"]
