"""Generations seen from outside: built, activated under writes, rolled back, and never in the way of a search."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visualindex.building import Built, build_generation
from visualindex.catalog import Catalog
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex

from .conftest import NONE, Served, put, spec_document
from .pictures import picture


async def build(served: Served, tmp_path: Path, phases: list[str] | None = None, **spec: Any) -> Built:
    resource = VisualIndex.model_validate(spec_document(**spec))
    said = (lambda phase, *_: phases.append(phase)) if phases is not None else (lambda *_: None)
    catalog = await Catalog.open(served.dsn, max_connections=2)
    store = open_store(resource.spec.storage, default_folder=served.state / "objects", credentials=NONE)
    try:
        return await build_generation(catalog, store, resource, tmp_path / "scratch", say=said)
    finally:
        await store.close()
        await catalog.close()


async def activate(served: Served, generation: str) -> dict[str, Any]:
    """By force: it was built by no job, and so was not judged."""
    answer = await served.client.post(
        f"/api/indexes/things/generations/{generation}/activate", json={"wait_s": 20, "force": True}
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


async def test_a_shard_that_would_not_fit_is_refused_before_a_row_is_read(
    served: Served, tmp_path: Path
) -> None:
    for seed in range(4):
        await put(served, seed)
    phases: list[str] = []
    with pytest.raises(ProblemError, match="4 images of 256 dimensions with") as refused:
        await build(served, tmp_path, phases, index={"memoryPerShard": 2000})
    assert refused.value.type is ProblemType.STORAGE_FULL
    assert phases == []
    assert not (tmp_path / "scratch").exists()


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


async def test_facets_groups_and_order_can_be_fields_of_a_form(served: Served) -> None:
    await put(served, 0, category="Chairs")
    form = {"facets": '["category"]', "group_by": '{"field": "category"}'}
    image = ("q.jpg", picture(0))
    answer = await served.client.post(
        "/api/search", files={"image": image}, data={**form, "consistency": "strong"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["facets"] == {"category": [{"value": "Chairs", "count": 1}]}
    sort = {"sort": '{"field": "category", "order": "desc"}'}
    answer = await served.client.post("/api/search", files={"image": image}, data=sort)
    assert answer.status_code == 200, answer.text


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


async def told(served: Served, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the API says of the index, once it says that: replicas tell it every few seconds."""
    async with asyncio.timeout(60):
        while True:
            view = (await served.client.get("/api/indexes/things")).json()
            if what(view):
                return view
            await asyncio.sleep(0.1)


async def test_an_index_tells_its_generation_its_recall_and_what_each_replica_has(
    served: Served, tmp_path: Path
) -> None:
    written = [await put(served, seed) for seed in range(4)]
    await search(served, written[0])
    view = (await served.client.get("/api/indexes/things")).json()
    assert (view["generation"], view["recall"], view["live_recall"], view["shards"]) == (
        "live",
        None,
        None,
        1,
    )

    built = await build(served, tmp_path)
    await activate(served, built.generation)
    await search(served, await put(served, 5), consistency="strong")
    view = await told(served, lambda view: view["replicas"][0]["fresh"] == 1)
    assert (view["generation"], view["families"]) == (built.generation, ["flat"])
    assert (view["recall"]["recall"], view["recall"]["met"]) == (1.0, True)
    assert [curve["family"] for curve in view["recall"]["curves"]] == ["flat"]
    (replica,) = view["replicas"]
    assert (replica["rows"], replica["shards"]) == (5, 1)
    assert built.generation in replica["generations"]
    (listed,) = (await served.client.get("/api/indexes")).json()
    assert (listed["generation"], listed["recall"]["curves"]) == (built.generation, [])


async def test_searches_that_were_sampled_tell_the_live_recall(serve: Any) -> None:
    async with serve(spec_document(index={"liveRecallSample": 1})) as served:
        written = await put(served, 0)
        await search(served, written)
        view = await told(served, lambda view: view["live_recall"] is not None)
        assert view["live_recall"]["recall"] == 1.0
        assert view["replicas"][0]["live_recall_samples"] == view["live_recall"]["samples"]
