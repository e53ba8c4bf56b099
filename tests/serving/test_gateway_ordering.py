"""Counts, groups and other orders of the images that pass a filter, over two shards and, halfway, a generation."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from .conftest import Served, put, serving, spec_document
from .test_generations import activate, build

pytestmark = pytest.mark.asyncio(loop_scope="module")

ATTRIBUTES = [
    {"name": "price", "type": "number"},
    {"name": "product", "type": "keyword"},
    {"name": "tint", "type": "colour"},
]
PRICES = [30, 10, 20, 10, 40, None]
SPEC: dict[str, Any] = {
    "attributes": ATTRIBUTES,
    "index": {"shards": 2},
    "limits": {"searchTimeoutMs": 30_000},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: Any, tmp_path_factory: Any, cache_dir: Path) -> AsyncIterator[Served]:
    """Six pictures: four are part of a generation, and two came after it."""
    async with serving(
        postgres, tmp_path_factory.mktemp("state"), cache_dir, spec_document(**SPEC)
    ) as running:
        for seed, price in enumerate(PRICES):
            metadata: dict[str, Any] = {"product": f"p{seed % 3}", "sale": seed % 2 == 0}
            if price is not None:
                metadata["price"] = price
            await put(running, seed, category="Chairs" if seed < 4 else "Beds", metadata=json.dumps(metadata))
            if seed == 3:
                await ask(running)  # opens the shards
                built = await build(running, tmp_path_factory.mktemp("scratch"), **SPEC)
                await activate(running, built.generation)
        yield running


async def ask(served: Served, status: int = 200, **fields: Any) -> dict[str, Any]:
    document = {"query": {"vector": [1.0] * 256}, "consistency": "strong", **fields}
    answer = await served.client.post("/api/search", json=document)
    assert answer.status_code == status, answer.text
    return answer.json()


def keys(answer: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in answer["hits"]]


async def test_facets_count_what_passes_the_filter_however_few_hits_are_shown(shop: Served) -> None:
    answer = await ask(shop, limit=1, facets=["price", "metadata.sale", "category"])
    assert answer["facets"]["price"][0] == {"value": 10, "count": 2}
    assert {one["value"] for one in answer["facets"]["price"]} == {10, 20, 30, 40}
    assert answer["facets"]["metadata.sale"] == [
        {"value": False, "count": 3},
        {"value": True, "count": 3},
    ]
    assert answer["facets"]["category"] == [
        {"value": "Chairs", "count": 4},
        {"value": "Beds", "count": 2},
    ]
    few = await ask(shop, filter="price < 30", facets=["product"])
    assert sum(one["count"] for one in few["facets"]["product"]) == 3


async def test_a_group_has_its_best_hits_alone(shop: Served) -> None:
    everything = await ask(shop, limit=6)
    products = {hit["key"]: hit["metadata"]["product"] for hit in everything["hits"]}
    grouped = await ask(shop, limit=6, group_by={"field": "product"})
    best: dict[str, str] = {}
    for key in keys(everything):
        best.setdefault(products[key], key)
    assert keys(grouped) == list(best.values())
    two = await ask(shop, limit=6, group_by={"field": "product", "size": 2})
    assert sorted(keys(two)) == sorted(keys(everything))


async def test_pages_of_groups_go_on_where_the_last_one_ended(shop: Served) -> None:
    whole = keys(await ask(shop, limit=3, group_by={"field": "product"}))
    page = await ask(shop, limit=1, group_by={"field": "product"})
    shown = keys(page)
    while page["next_cursor"]:
        page = (
            await shop.client.post("/api/search", json={"cursor": page["next_cursor"], "limit": 1})
        ).json()
        shown += keys(page)
    assert shown == whole


async def test_a_field_gives_the_order_and_images_without_it_come_last(shop: Served) -> None:
    ascending = await ask(shop, limit=6, sort={"by": "x"}, status=422)
    assert ascending["type"].endswith("invalid-request")
    prices = [
        hit["metadata"].get("price")
        for hit in (await ask(shop, limit=6, sort={"field": "price", "order": "asc"}))["hits"]
    ]
    assert prices == [10, 10, 20, 30, 40, None]
    prices = [
        hit["metadata"].get("price")
        for hit in (await ask(shop, limit=6, sort={"field": "price", "order": "desc"}))["hits"]
    ]
    assert prices == [40, 30, 20, 10, 10, None]


async def test_pages_in_the_order_of_a_field_show_every_image_once(shop: Served) -> None:
    for order in ("asc", "desc"):
        sort = {"field": "price", "order": order}
        whole = keys(await ask(shop, limit=6, sort=sort))
        page = await ask(shop, limit=2, sort=sort)
        shown = keys(page)
        while page["next_cursor"]:
            page = (
                await shop.client.post("/api/search", json={"cursor": page["next_cursor"], "limit": 2})
            ).json()
            shown += keys(page)
        assert shown == whole


async def test_the_scores_of_sorted_hits_are_those_of_the_search(shop: Served) -> None:
    scores = {hit["key"]: hit["score"] for hit in (await ask(shop, limit=6))["hits"]}
    ordered = await ask(shop, limit=6, sort={"field": "price"})
    assert {hit["key"]: hit["score"] for hit in ordered["hits"]} == scores
    least = sorted(scores.values())[3]
    above = await ask(shop, limit=6, sort={"field": "price"}, min_score=least - 1e-6)
    assert set(keys(above)) == {key for key, score in scores.items() if score >= least}


async def test_names_that_are_no_fields_are_refused_with_a_pointer(shop: Served) -> None:
    for fields, pointer in (
        ({"facets": ["category", "prize"]}, "/facets/1"),
        ({"group_by": {"field": "nothing"}}, "/group_by/field"),
        ({"sort": {"field": "tint"}}, "/sort/field"),
    ):
        refused = await ask(shop, status=422, **fields)
        assert refused["errors"][0]["pointer"] == pointer, refused


async def test_explain_tells_how_each_shard_went_about_the_filter(shop: Served) -> None:
    answer = await ask(shop, filter={"range": {"price": {"lt": 30}}}, explain=True)
    assert answer["explain"]["matches"] == 3
    for shard in answer["explain"]["shards"]:
        assert [part["part"] for part in shard["plan"]] == ["base 0", "fresh"]
        for part in shard["plan"]:
            least, most = part["estimated"]
            assert least <= part["matches"] <= most
    assert sum(shard["matches"] for shard in answer["explain"]["shards"]) == 3
