"""Searches whose first hits are reordered by local features: when, in which pages, and what happens when it fails."""

import dataclasses
import io
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visualindex.catalog import Catalog
from visualindex.rerank.fusion import Fusion
from visualindex.rerank.profile import Profile
from visualindex.rerank.verdict import worth_it
from visualindex_serving.cursors import decode_cursor

from .conftest import Served, put, spec_document
from .pictures import picture

COUNT = 14
PATIENT = {"mode": "always", "candidates": 10, "budget_ms": 10_000}


@pytest.fixture
async def reranked(serve: Any) -> AsyncIterator[Served]:
    async with serve(spec_document(rerank={**PATIENT, "exact_image": True})) as running:
        yield running


async def fill(served: Served, count: int = COUNT) -> list[dict[str, Any]]:
    return [await put(served, seed, category="even" if seed % 2 == 0 else "odd") for seed in range(count)]


def crop(seed: int) -> bytes:
    """A tight crop of a picture: what one vector for the whole of it sees badly."""
    whole = Image.open(io.BytesIO(picture(seed)))
    width, height = whole.size
    out = io.BytesIO()
    part = whole.crop((width // 4, height // 4, width * 3 // 4, height * 3 // 4)).resize(whole.size)
    part.save(out, "PNG")
    return out.getvalue()


async def ask(served: Served, data: bytes | None = None, **request: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {"request": (None, json.dumps(request))}
    if data is not None:
        parts["image"] = ("q.png", data)
        answer = await served.client.post("/api/search", files=parts)
    else:
        answer = await served.client.post("/api/search", json=request)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def keys(found: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in found["hits"]]


async def test_the_first_hits_stand_by_their_rerank_score(reranked: Served) -> None:
    written = await fill(reranked)
    token = written[-1]["token"]
    plain = await ask(reranked, crop(3), rerank=False, token=token)
    found = await ask(reranked, crop(3), explain=True)
    assert (plain["reranked"], plain["rerank_reason"]) == (False, None)
    assert (found["reranked"], found["rerank_reason"]) == (True, None)
    assert found["hits"][0]["key"] == "k3"
    scores = [hit["rerank_score"] for hit in found["hits"]]
    assert scores[:10] == sorted(scores[:10], reverse=True)
    assert scores[10:] == [None] * (COUNT - 10)
    assert sorted(keys(found)[:10]) == sorted(keys(plain)[:10])
    assert keys(found)[10:] == keys(plain)[10:]
    cosines = {hit["key"]: hit["score"] for hit in plain["hits"]}
    assert all(hit["score"] == pytest.approx(cosines[hit["key"]], abs=1e-5) for hit in found["hits"])
    assert found["explain"]["timings_ms"]["rerank"] > 0


async def test_an_indexed_image_is_compared_by_the_patches_it_was_stored_with(reranked: Served) -> None:
    written = await fill(reranked)
    by_id = await ask(
        reranked, query={"image_id": written[5]["image_id"]}, include_self=True, token=written[-1]["token"]
    )
    by_upload = await ask(reranked, picture(5))
    assert by_id["reranked"]
    assert keys(by_id) == keys(by_upload)
    assert keys(by_id)[0] == "k5"


async def test_a_query_without_a_picture_keeps_the_first_order(reranked: Served) -> None:
    written = await fill(reranked, 4)
    vector = (
        await reranked.client.post("/internal/embedding", files={"image": ("p.jpg", picture(2))})
    ).json()["vector"]
    found = await ask(reranked, query={"vector": vector}, token=written[-1]["token"])
    assert not found["reranked"]
    assert found["rerank_reason"] == "a query vector has no picture to compare"
    assert keys(found)[0] == "k2"


async def test_pages_together_are_one_long_page(reranked: Served) -> None:
    """The first page fixes the order of the candidates; the hits after them stand as the first stage has them."""
    written = await fill(reranked)
    whole = await ask(reranked, crop(3), limit=COUNT, token=written[-1]["token"])
    for limit in (1, 3, 4, 10, 11):
        page = await ask(reranked, crop(3), limit=limit)
        seen, states = keys(page), [page["reranked"]]
        while page["next_cursor"]:
            page = await ask(reranked, cursor=page["next_cursor"], limit=limit)
            seen += keys(page)
            states.append(page["reranked"])
        assert seen == keys(whole), limit
        assert states == [n * limit < 10 for n in range(len(states))]


async def test_between_pages_images_may_come_and_go(reranked: Served) -> None:
    written = await fill(reranked)
    by_key = {one["key"]: one["image_id"] for one in written}
    whole = keys(await ask(reranked, crop(3), limit=COUNT, token=written[-1]["token"]))
    first = await ask(reranked, crop(3), limit=4)
    gone = whole[5]
    deleted = await reranked.client.delete(f"/api/images/{by_key[gone]}")
    added = await reranked.client.post(
        "/api/images", files={"image": ("p.png", crop(3))}, data={"key": "new"}
    )
    assert deleted.is_success
    seen = keys(first)
    page = await ask(reranked, cursor=first["next_cursor"], limit=4, token=added.json()["token"])
    seen += keys(page)
    while page["next_cursor"]:
        page = await ask(reranked, cursor=page["next_cursor"], limit=4)
        seen += keys(page)
    assert seen == [key for key in whole if key != gone]


async def test_a_forged_cursor_shows_nothing_that_a_search_would_not(reranked: Served) -> None:
    written = await fill(reranked)
    by_key = {one["key"]: one["image_id"] for one in written}
    found = await ask(
        reranked, crop(3), limit=2, filter={"eq": {"category": "odd"}}, token=written[-1]["token"]
    )
    cursor = decode_cursor(found["next_cursor"])
    forged = dataclasses.replace(cursor, pending=((uuid.UUID(by_key["k2"]), 9.0), *cursor.pending))
    page = await ask(reranked, cursor=forged.encode(), limit=10)
    assert "k2" not in keys(page)
    assert keys(page)


@pytest.mark.parametrize("fault", ["broken", "stalled"])
async def test_without_an_answer_in_time_the_first_order_is_given(serve: Any, fault: str) -> None:
    async with serve(spec_document(rerank={"mode": "always", "candidates": 10, "budget_ms": 50})) as served:
        written = await fill(served)
        plain = await ask(served, crop(3), rerank=False, limit=4, token=written[-1]["token"])
        setattr(served.rerankers["things"], fault, True)
        found = await ask(served, crop(3), limit=4)
        assert keys(found) == keys(plain)
        assert not found["reranked"]
        expected = {"broken": "A part of the service is unavailable", "stalled": "not ready within 50 ms"}
        assert expected[fault] in found["rerank_reason"]
        after = await ask(served, cursor=found["next_cursor"], limit=4)
        assert keys(after) == keys(await ask(served, cursor=plain["next_cursor"], limit=4))


async def test_an_index_without_patches_says_so_only_when_asked(served: Served) -> None:
    written = await fill(served, 3)
    silent = await ask(served, picture(1), token=written[-1]["token"])
    told = await ask(served, picture(1), rerank=True)
    assert (silent["reranked"], silent["rerank_reason"]) == (False, None)
    assert told["rerank_reason"] == "reranking is off for this index (spec.rerank.mode)"


async def test_auto_waits_for_a_measurement_that_shows_a_gain(serve: Any) -> None:
    for gains, expected in ((None, "not measured"), (np.zeros(50), "not surely a gain"), (np.ones(50), None)):
        async with serve(spec_document(rerank={**PATIENT, "mode": "auto"})) as served:
            written = await fill(served, 4)
            if gains is not None:
                features = served.app.state.service.indexes["things"].reranking.features
                catalog = await Catalog.open(served.dsn)
                profile = Profile.of(features, Fusion({"maxsim": 2.0}), worth_it(gains))
                await catalog.set_rerank_profile("things", profile.to_json())
                await catalog.close()
            found = await ask(served, picture(1), token=written[-1]["token"])
            assert found["reranked"] is (expected is None)
            assert expected is None or expected in found["rerank_reason"]
            assert (await ask(served, picture(1), rerank=True))["reranked"]


async def test_other_content_brings_other_patches(reranked: Served) -> None:
    written = await fill(reranked)
    before = await ask(reranked, picture(3), token=written[-1]["token"])
    answer = await reranked.client.post(
        "/api/images", files={"image": ("p.jpg", picture(99))}, data={"key": keys(before)[0]}
    )
    found = await ask(reranked, picture(99), token=answer.json()["token"])
    assert keys(found)[0] == "k3"
    assert found["hits"][0]["rerank_score"] > found["hits"][1]["rerank_score"]
    again = await ask(reranked, picture(3))
    assert keys(again)[0] != "k3"


async def test_exact_puts_verified_copies_first(reranked: Served) -> None:
    written = await fill(reranked)
    found = await ask(reranked, crop(7), rerank="exact", token=written[-1]["token"])
    assert keys(found)[0] == "k7"
    assert (found["reranked"], found["rerank_reason"]) == (True, None)
    by_id = await ask(reranked, query={"image_id": written[7]["image_id"]}, include_self=True, rerank="exact")
    assert keys(by_id)[0] == "k7"


async def test_exact_is_not_for_a_region(reranked: Served) -> None:
    written = await fill(reranked, 3)
    box = {"x": 0, "y": 0, "width": 0.5, "height": 0.5}
    boxed = await ask(reranked, picture(1), rerank="exact", query={"box": box}, token=written[-1]["token"])
    assert boxed["rerank_reason"] == "exact compares whole pictures: leave out the box"
    assert (await ask(reranked, picture(1), query={"box": box}))["reranked"]


async def test_an_index_that_verifies_no_copies_says_so(serve: Any) -> None:
    async with serve(spec_document(rerank=PATIENT)) as served:
        found = await ask(served, picture(1), rerank="exact")
        assert found["rerank_reason"] == "this index verifies no copies (spec.rerank.exactImage)"
