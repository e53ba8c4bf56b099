"""Patches move into generations and reranking goes on as before, whatever becomes of the generation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from visualindex.rerank.packed import FILES as PATCH_FILES
from visualindex_serving.generation_patches import GenerationPatches

from .conftest import Served, put, spec_document
from .pictures import picture
from .test_generations import finished
from .test_reranking import PATIENT, ask, crop, fill, keys


@pytest.fixture
async def reranked(serve: Any) -> AsyncIterator[Served]:
    async with serve(spec_document(index={"shards": 2}, rerank=PATIENT)) as running:
        yield running


async def build(served: Served) -> str:
    """Build and activate a generation, and have the reranker follow; returns its name."""
    asked = await served.client.post("/api/indexes/things/generations", json={"activate": True})
    job = await finished(served, asked.json())
    assert (job["state"], job["problem"]) == ("done", None)
    generation: str = job["result"]["generation"]
    async with asyncio.timeout(30):
        found = await ask(served, picture(1), rerank=False)
        while found["generation"] != generation:
            found = await ask(served, picture(1), rerank=False)
    await following(served).refresh()
    return generation


def following(served: Served) -> GenerationPatches:
    found = served.rerankers["things"].generations
    assert found is not None
    return found


async def side_table(served: Served) -> int:
    async with await psycopg.AsyncConnection.connect(served.dsn) as connection:
        (row,) = await (await connection.execute("SELECT count(*) FROM image_patches")).fetchall()
        return int(row[0])


async def test_a_generation_holds_the_patches_and_the_order_stays(reranked: Served) -> None:
    written = await fill(reranked)
    before = await ask(reranked, crop(3), token=written[-1]["token"])
    first = await build(reranked)
    assert await side_table(reranked) == len(written)
    await following(reranked).forget()
    assert await side_table(reranked) == 0
    leases = [
        {file.name for file in lease.iterdir()} for lease in (reranked.state / "generations/leases").iterdir()
    ]
    of_shards = [names for names in leases if "vectors.f16" in names]
    assert len(of_shards) == 2
    assert not any(names & set(PATCH_FILES) for names in of_shards)  # which are much larger than the rest
    after = await ask(reranked, crop(3))
    assert (after["reranked"], after["rerank_reason"], after["generation"]) == (True, None, first)
    assert [(h["key"], h["rerank_score"]) for h in after["hits"]] == [
        (h["key"], pytest.approx(h["rerank_score"], abs=1e-4)) for h in before["hits"]
    ]
    by_id = await ask(reranked, query={"image_id": written[5]["image_id"]}, include_self=True)
    assert (by_id["reranked"], keys(by_id)[0]) == (True, "k5")


async def test_the_next_generation_takes_patches_from_the_one_before(reranked: Served) -> None:
    written = await fill(reranked)
    await ask(reranked, crop(3), token=written[-1]["token"])
    await build(reranked)
    await following(reranked).forget()
    renamed = await reranked.client.patch(
        f"/api/images/{written[3]['image_id']}", json={"metadata": {"colour": "red"}}
    )
    assert renamed.is_success
    replaced = await reranked.client.post(
        "/api/images", files={"image": ("p.jpg", picture(99))}, data={"key": "k4"}
    )
    last = len(written)
    await put(reranked, last)
    await build(reranked)
    await following(reranked).forget()
    assert await side_table(reranked) == 0
    found = await ask(reranked, crop(3), token=replaced.json()["token"])
    assert (found["reranked"], found["rerank_reason"], keys(found)[0]) == (True, None, "k3")
    assert keys(await ask(reranked, picture(99)))[0] == "k4"
    assert keys(await ask(reranked, picture(last)))[0] == f"k{last}"


async def test_after_a_rollback_what_only_the_other_generation_has_is_ordered_by_the_first_stage(
    reranked: Served,
) -> None:
    written = await fill(reranked, 6)
    await ask(reranked, crop(3), token=written[-1]["token"])
    first = await build(reranked)
    late = await put(reranked, 6)
    await build(reranked)
    await following(reranked).forget()
    back = await reranked.client.post("/api/indexes/things/rollback", json={"wait_s": 20})
    assert back.json()["generation"] == first
    await following(reranked).refresh()
    found = await ask(reranked, crop(3), token=late["token"])
    assert (found["reranked"], keys(found)[0]) == (True, "k3")
    assert found["rerank_reason"] == "6 of 7 candidates have patches"


async def test_an_index_that_had_images_before_says_how_many_can_be_compared(
    serve: Any, tmp_path: Any
) -> None:
    async with serve(spec_document(rerank=PATIENT)) as served:
        written = await fill(served, 5)
        async with await psycopg.AsyncConnection.connect(served.dsn, autocommit=True) as connection:
            await connection.execute("DELETE FROM image_patches")  # as if they were from before
        nobody = await ask(served, crop(3), token=written[-1]["token"])
        assert (nobody["reranked"], nobody["rerank_reason"]) == (
            False,
            "no hit has patches yet: write the images again",
        )
        again = await put(served, 3)
        found = await ask(served, crop(3), token=again["token"])
        assert (found["reranked"], found["rerank_reason"]) == (True, "1 of 5 candidates have patches")
        generation = await build(served)
        listed = await ask(served, crop(3))
        assert (listed["generation"], listed["rerank_reason"]) == (
            generation,
            "1 of 5 candidates have patches",
        )
