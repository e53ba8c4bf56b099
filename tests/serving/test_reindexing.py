"""A rebuild asked for over HTTP: followed, told about, served, and complete although images are written meanwhile."""

import asyncio
from typing import Any

import httpx

from visualindex.catalog import Catalog

from .conftest import Served, problem, put, spec_document
from .pictures import picture
from .test_generations import finished, search

SMALL_CHUNKS = {"reindex": {"chunkImages": 4}}


async def asked(served: Served, **body: Any) -> dict[str, Any]:
    answer: httpx.Response = await served.client.post("/api/indexes/things/reindex", json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def forget_vectors(served: Served) -> None:
    """As if another release, or another encoder, had stored the images so far."""

    async def work(transaction: Any) -> None:
        await transaction.connection.execute("DELETE FROM image_embeddings")

    catalog = await Catalog.open(served.dsn, max_connections=1)
    await catalog.connections.write(work)
    await catalog.close()


async def served_by(served: Served, written: dict[str, Any], generation: str) -> dict[str, Any]:
    """The first search that the generation answers."""
    async with asyncio.timeout(20):
        found = await search(served, written)
        while found["generation"] != generation:
            found = await search(served, written)
    return found


async def everything(served: Served) -> set[str]:
    answer = await served.client.get("/api/images", params={"index": "things", "limit": 100})
    return {image["image_id"] for image in answer.json()["images"]}


async def test_a_rebuild_is_asked_for_followed_and_served(serve: Any) -> None:
    async with serve(spec_document(**SMALL_CHUNKS)) as served:
        written = [await put(served, seed) for seed in range(9)]
        await forget_vectors(served)
        first = await asked(served, activate=True)
        assert (await asked(served))["job_id"] == first["job_id"]
        job = await finished(served, first)
        assert (job["state"], job["problem"]) == ("done", None)
        assert (job["result"]["images"], job["result"]["encoded"]) == (9, 9)
        found = await served_by(served, written[0], job["result"]["generation"])
        assert {hit["image_id"] for hit in found["hits"]} == {one["image_id"] for one in written}
        lines = (await served.client.get(f"/api/indexes/things/jobs/{job['job_id']}/log")).json()
        assert [lines[0]["line"], lines[-1]["line"]] == ["begun, the 1. time", "done"]
        behind = {"after": lines[-2]["number"]}
        rest = await served.client.get(f"/api/indexes/things/jobs/{job['job_id']}/log", params=behind)
        assert rest.json() == lines[-1:]


async def test_what_is_written_during_a_rebuild_is_in_its_result(serve: Any) -> None:
    """Writers add, replace and delete while chunks are made; the generation is activated and answers for all of it."""
    async with serve(spec_document(**SMALL_CHUNKS)) as served:
        written = [await put(served, seed) for seed in range(24)]
        await forget_vectors(served)
        job, late = await asked(served, activate=True), []

        async def write() -> None:
            for seed in range(100, 112):
                late.append(await put(served, seed))
                again = {"image": ("p.jpg", picture(seed + 500))}
                replaced = await served.client.post(
                    "/api/images", files=again, data={"key": f"k{seed - 100}"}
                )
                assert replaced.is_success, replaced.text
                gone = written[12 + seed - 100]["image_id"]
                assert (await served.client.delete(f"/api/images/{gone}")).status_code == 200

        ended, _ = await asyncio.gather(finished(served, job, within_s=120), write())
        assert (ended["state"], ended["problem"]) == ("done", None)
        await served_by(served, late[0], ended["result"]["generation"])
        expected = {one["image_id"] for one in [*written[:12], *late]}
        found = await search(served, late[-1], consistency="strong", limit=100)
        assert {hit["image_id"] for hit in found["hits"]} == expected == await everything(served)
        for seed in range(12):  # replaced ones are found by what they show now
            (hit,) = await nearest(served, picture(seed + 600))
            assert (hit["key"], round(hit["score"], 2)) == (f"k{seed}", 1.0)


async def nearest(served: Served, data: bytes) -> list[dict[str, Any]]:
    form = {"limit": "1", "consistency": "strong"}
    answer = await served.client.post("/api/search", files={"image": ("q.jpg", data)}, data=form)
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


async def test_images_that_cannot_be_had_are_listed(served: Served) -> None:
    one = await put(served, 1)
    await forget_vectors(served)
    for file in served.state.rglob("originals/**/*"):
        if file.is_file():
            file.unlink()
    job = await finished(served, await asked(served))
    assert job["result"]["quarantined"] == 1
    (aside,) = (await served.client.get("/api/indexes/things/quarantine")).json()
    assert (aside["image_id"], aside["reason"], aside["job_id"]) == (
        one["image_id"],
        "not-found",
        job["job_id"],
    )


async def test_an_unknown_job_has_no_log(served: Served) -> None:
    answer = await served.client.get("/api/indexes/things/jobs/3b241101-e2bb-4255-8caf-4136c566a962/log")
    problem(answer, 404, "not-found")
