"""Typed attributes and filters as text, from the HTTP API to the shards."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .conftest import Served, problem, put, spec_document
from .pictures import picture

ATTRIBUTES = [
    {"name": "price", "type": "number"},
    {"name": "added", "type": "time"},
    {"name": "shelf", "type": "path", "source": "category"},
]
ITEMS = {
    "bed": ("Home > Beds", {"price": 90, "added": "2026-03-01T23:30:00-01:00"}),
    "sofa": ("Home > Sofas", {"price": 400.5, "added": "2026-03-01"}),
    "lamp": ("Home", {"price": None, "added": 1772323200}),
}


@pytest.fixture
async def shop(serve: Any) -> AsyncIterator[Served]:
    async with serve(spec_document(attributes=ATTRIBUTES)) as running:
        yield running


async def found(served: Served, where: Any, token: str) -> list[str]:
    request = {"query": {"vector": [1.0] * 256}, "filter": where, "token": token}
    answer = await served.client.post("/api/search", json=request)
    assert answer.status_code == 200, answer.text
    return sorted(hit["key"] for hit in answer.json()["hits"])


async def test_a_search_names_attributes_in_either_form(shop: Served) -> None:
    for seed, (key, (category, metadata)) in enumerate(ITEMS.items()):
        written = await put(shop, seed, key=key, category=category, metadata=json.dumps(metadata))
    token = written["token"]
    for where, expected in (
        ("price < 100", ["bed"]),
        ({"range": {"price": {"lt": 100}}}, ["bed"]),
        ('shelf = "Home"', ["bed", "lamp", "sofa"]),
        ('shelf in ("Home > Beds", "Home > Sofas") and price > 100', ["sofa"]),
        ('added = "2026-03-01"', ["lamp", "sofa"]),
        ('added >= "2026-03-02"', ["bed"]),
        ("added > now-1h", []),
        ("not exists(price)", ["lamp"]),
        ("", ["bed", "lamp", "sofa"]),
    ):
        assert await found(shop, where, token) == expected, where
    form = {"filter": "price < 100", "token": token}
    answer = await shop.client.post("/api/search", files={"image": ("p.jpg", picture(0))}, data=form)
    assert [hit["key"] for hit in answer.json()["hits"]] == ["bed"]


async def test_a_page_goes_on_with_the_filter_that_the_text_meant(shop: Served) -> None:
    for seed in range(4):
        written = await put(shop, seed, key=f"k{seed}", metadata=json.dumps({"added": "2026-03-01"}))
    request: dict[str, Any] = {"query": {"vector": [1.0] * 256}, "filter": "added < now", "limit": 3}
    first = (await shop.client.post("/api/search", json={**request, "token": written["token"]})).json()
    rest = (await shop.client.post("/api/search", json={"cursor": first["next_cursor"]})).json()
    assert sorted(hit["key"] for page in (first, rest) for hit in page["hits"]) == ["k0", "k1", "k2", "k3"]


async def test_a_wrong_text_says_where(shop: Served) -> None:
    request = {"query": {"vector": [1.0] * 256}, "filter": 'price < 3 and prise = "x"'}
    refused = problem(await shop.client.post("/api/search", json=request), 422, "invalid-filter")
    assert (refused["offset"], refused["pointer"]) == (14, "")
    assert "unknown field 'prise'; use added, price, shelf" in refused["detail"]
    assert refused["detail"].endswith("\n                ^")


async def test_a_value_of_the_wrong_type_is_not_written(shop: Served) -> None:
    fields = {"key": "a", "metadata": json.dumps({"price": "90", "added": "2026-03-01"})}
    files = {"image": ("p.jpg", picture(0))}
    answer = await shop.client.post("/api/images", files=files, data=fields)
    refused = problem(answer, 422, "invalid-request")
    assert [error["pointer"] for error in refused["errors"]] == ["/metadata/price"]
    assert "without quotes" in refused["detail"]
    written = await put(shop, 0, key="a", metadata=json.dumps({"price": 90}))
    patch = await shop.client.patch(
        f"/api/images/{written['image_id']}", json={"metadata": {"added": "soon"}}
    )
    assert problem(patch, 422, "invalid-request")["errors"][0]["pointer"] == "/metadata/added"
