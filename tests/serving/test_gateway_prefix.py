"""A gateway below a prefix, as Serve mounts that of an index which joined another's cluster: the path keeps the prefix."""

import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import urljoin

import httpx
import pytest

from visualindex.client import AsyncClient

from .conftest import Served, problem, spec_document
from .pictures import picture


@pytest.fixture
async def below(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service at http://127.0.0.1/things, with ASGI's `root_path` as Serve gives it."""
    transport = httpx.ASGITransport(app=served.app, root_path="/things")
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        yield client


async def stored(client: httpx.AsyncClient, seed: int) -> str:
    answer = await client.post("/things/api/images", files={"image": ("p.jpg", picture(seed))})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["image_id"])


async def test_answers_name_paths_that_can_be_asked(below: httpx.AsyncClient) -> None:
    image_id = await stored(below, 1)
    shown = (await below.get(f"/things/api/images/{image_id}")).json()
    listed = (await below.get("/things/api/images")).json()["images"][0]
    files = {"image": ("p.jpg", picture(1)), "request": (None, '{"consistency": "strong"}')}
    (hit,) = (await below.post("/things/api/search", files=files)).json()["hits"]
    assert shown["thumbnails"] == listed["thumbnails"] == hit["thumbnails"]
    for path in hit["thumbnails"].values():
        assert path.startswith("/things/api/thumbnails/things/")
        assert (await below.get(path)).headers["content-type"] == "image/webp"


async def test_the_pages_find_their_files_and_each_other(below: httpx.AsyncClient) -> None:
    for page in ("/things/", "/things/docs"):
        named = re.findall(r'(?:src|href)="([^"#]*)"', (await below.get(page)).text)
        assert named
        for address in named:
            assert (await below.get(urljoin(page, address))).status_code == 200, address


async def test_the_bare_prefix_leads_to_the_page(below: httpx.AsyncClient) -> None:
    answer = await below.get("/things")
    assert (answer.status_code, answer.headers["location"]) == (308, "/things/")


async def test_the_reference_names_the_prefix(below: httpx.AsyncClient) -> None:
    document = (await below.get("/things/openapi.json")).json()
    assert document["servers"] == [{"url": "/things"}]
    assert "/api/search" in document["paths"]


async def test_what_is_not_there_is_a_problem_that_points_to_the_reference(below: httpx.AsyncClient) -> None:
    found = problem(await below.get("/things/api/nothing"), 404, "not-found")
    assert found["detail"] == "There is nothing at /things/api/nothing; /things/docs lists the calls."
    problem(await below.put("/things/api/search"), 405, "method-not-allowed")


async def test_limits_of_a_search_hold_below_the_prefix(serve: Callable[..., AsyncIterator[Served]]) -> None:
    limits = {"imageBytes": 1000, "requestBytes": "4Mi"}
    async with serve(spec_document(limits=limits)) as served:  # type: ignore[attr-defined]
        transport = httpx.ASGITransport(app=served.app, root_path="/things")
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            refused = await client.post("/things/api/search", content=bytes(2 * 1024**2))
            assert problem(refused, 413, "request-too-large")["limit"] == 1000 + 1024**2


async def test_probes_are_let_through_below_the_prefix(below: httpx.AsyncClient) -> None:
    foreign = {"host": "evil.example"}
    assert (await below.get("/things/healthz", headers=foreign)).status_code == 200
    assert (await below.head("/things/readyz", headers=foreign)).status_code == 200
    problem(await below.get("/things/api/indexes", headers=foreign), 403, "forbidden")


async def test_the_client_takes_an_address_with_a_path(
    served: Served, below: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await stored(below, 2)
    async with AsyncClient("http://127.0.0.1/things/") as client:
        transport = httpx.ASGITransport(app=served.app, root_path="/things")
        monkeypatch.setattr(client._http, "_transport", transport)
        (image,) = (await client.list_images()).images
        assert str(image.image_id) == image_id
        thumbnail = await client.file(image.thumbnails["128"])
    assert thumbnail[8:12] == b"WEBP"
