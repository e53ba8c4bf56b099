"""Searching by colour and by domain through a gateway: what was found in the pictures decides."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from .conftest import Served, problem, serving, spec_document
from .test_gateway_access import key

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOMAINS = [
    {"name": "clothes", "filter": 'category = "Clothes"', "attributes": ["shop"]},
    {"name": "furniture", "filter": {"eq": {"category": "Furniture"}}, "limit": 1},
    {"name": "picky", "filter": 'category = "Furniture"', "minScore": 0.999},
    {"name": "red-things", "filter": 'colour("red", 0.5)'},
]
PICTURES = {
    "red sofa": ((200, 20, 20), "Furniture", "a"),
    "blue sofa": ((20, 40, 200), "Furniture", "b"),
    "red dress": ((190, 30, 25), "Clothes", "a"),
    "green dress": ((20, 150, 40), "Clothes", "b"),
}


def shot(colour: tuple[int, int, int], round_: bool) -> bytes:
    """A product of one colour before a white background."""
    picture = Image.new("RGB", (200, 160), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    (draw.ellipse if round_ else draw.rectangle)((40, 30, 160, 130), fill=colour)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    postgres: Any, tmp_path_factory: Any, cache_dir: Any
) -> AsyncIterator[tuple[Served, dict[str, str]]]:
    """A gateway with domains and four product shots, and the last write's token by name."""
    document = spec_document(attributes=[{"name": "shop", "type": "keyword"}], domains=DOMAINS)
    async with serving(postgres, tmp_path_factory.mktemp("state"), cache_dir, document) as served:
        written: dict[str, str] = {}
        for key, (colour, category, seller) in PICTURES.items():
            answer = await served.client.post(
                "/api/images",
                files={"image": ("p.png", shot(colour, category == "Clothes"))},
                data={"key": key, "category": category, "metadata": json.dumps({"shop": seller})},
            )
            written = {**written, key: answer.json()["image_id"], "token": answer.json()["token"]}
        yield served, written


async def search(shop: tuple[Served, dict[str, str]], **request: Any) -> Any:
    served, written = shop
    query = {"query": {"image_id": written["red sofa"]}, "include_self": True, "token": written["token"]}
    return await served.client.post("/api/search", json={**query, **request})


async def keys(shop: tuple[Served, dict[str, str]], **request: Any) -> set[str]:
    answer = await search(shop, **request)
    assert answer.status_code == 200, answer.text
    return {hit["key"] for hit in answer.json()["hits"]}


async def test_a_filter_by_colour_finds_the_products_and_not_their_background(shop: Any) -> None:
    assert await keys(shop, filter={"colour": {"name": "red", "min_share": 0.5}}) == {"red sofa", "red dress"}
    assert await keys(shop, filter='colour("#1428c8", 10, 0.5)') == {"blue sofa"}
    assert await keys(shop, filter={"colour": {"name": "white", "min_share": 0.2}}) == set()
    assert await keys(shop, filter='category = "Clothes" and not colour("red")') == {"green dress"}


async def test_a_domain_is_a_part_of_the_images(shop: Any) -> None:
    assert await keys(shop) == set(PICTURES)
    assert await keys(shop, domain="clothes") == {"red dress", "green dress"}
    assert await keys(shop, domain="red-things") == {"red sofa", "red dress"}


async def test_several_domains_are_their_union(shop: Any) -> None:
    both = await keys(shop, domain=["clothes", "red-things"])
    assert both == {"red dress", "green dress", "red sofa"}
    assert await keys(shop, domain=["clothes", "red-things"], filter='category = "Furniture"') == {"red sofa"}


async def test_each_domain_has_its_own_least_score(shop: Any) -> None:
    assert await keys(shop, domain="picky") == {"red sofa"}
    assert await keys(shop, domain=["picky", "clothes"]) == {"red sofa", "red dress", "green dress"}
    assert await keys(shop, domain="picky", min_score=-1) == {"red sofa", "blue sofa"}


async def test_a_cursor_keeps_to_the_domains_of_its_search(shop: Any) -> None:
    found, cursor = [], None
    page: dict[str, Any] = {"domain": ["picky", "clothes"], "limit": 1}
    for _ in range(len(PICTURES) + 1):
        served, _ = shop
        answer = await (
            search(shop, **page)
            if cursor is None
            else served.client.post("/api/search", json={"cursor": cursor, "limit": 1})
        )
        found += [hit["key"] for hit in answer.json()["hits"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
    assert sorted(found) == ["green dress", "red dress", "red sofa"]


async def test_a_domain_does_not_widen_the_filter_of_a_key(shop: Any) -> None:
    served, written = shop
    limited = await key(served, "search", filter={"eq": {"category": "Clothes"}})
    query = {"query": {"image_id": written["red dress"]}, "include_self": True, "token": written["token"]}
    for domain, expected in (("furniture", set()), ("red-things", {"red dress"})):
        answer = await served.client.post("/api/search", json={**query, "domain": domain}, headers=limited)
        assert {hit["key"] for hit in answer.json()["hits"]} == expected


async def test_a_domain_gives_a_limit_and_facets_where_the_search_says_none(shop: Any) -> None:
    assert len(await keys(shop, domain="furniture")) == 1
    assert len(await keys(shop, domain="furniture", limit=5)) == 2
    answer = (await search(shop, domain="clothes")).json()
    counts = {one["value"]: one["count"] for one in answer["facets"]["shop"]}
    assert counts == {"a": 1, "b": 1}


async def test_an_unknown_domain_is_refused_with_the_nearest(shop: Any) -> None:
    refused = problem(await search(shop, domain="cloths"), 422, "invalid-request")
    assert "did you mean 'clothes'" in refused["detail"]


async def test_an_index_lists_its_domains(shop: Any) -> None:
    served, _ = shop
    listed = (await served.client.get("/api/indexes/things")).json()["domains"]
    assert [one["name"] for one in listed] == ["clothes", "furniture", "picky", "red-things"]
    assert listed[1] == {
        "name": "furniture",
        "filter": {"eq": {"category": "Furniture"}},
        "attributes": [],
        "min_score": None,
        "limit": 1,
    }
