"""Open access on loopback: pages of other sites and names pointed here get nothing from a visitor's browser."""

from typing import Any

import pytest

from .conftest import Served, problem, spec_document

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUERY = {"query": {"vector": [1.0] * 256}}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:9", "LOCALHOST", "[::1]", "[::1]:80"]
)
async def test_loopback_by_any_name_and_port_is_served(shared: Served, host: str) -> None:
    sent = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    answer = await shared.client.post("/api/search", json=QUERY, headers=sent)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::1", "", "@"],
)
async def test_a_name_pointed_here_is_refused(shared: Served, host: str) -> None:
    for method, path in (("GET", "/api/images"), ("POST", "/api/search"), ("GET", "/"), ("GET", "/docs")):
        answer = await shared.client.request(method, path, headers={"Host": host})
        assert "send a key" in problem(answer, 403, "forbidden")["detail"]
    assert (await shared.client.get("/readyz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_of_another_site_is_refused(shared: Served, sent: dict[str, str]) -> None:
    files = {"image": ("p.jpg", b"")}
    answer = await shared.client.post("/api/images", files=files, headers=sent)
    assert "send a key" in problem(answer, 403, "forbidden")["detail"]
    assert (await shared.client.get("/api/images")).json()["images"] == []


async def test_links_from_elsewhere_lead_to_the_page(shared: Served) -> None:
    answer = await shared.client.get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200


async def test_a_key_is_enough_wherever_it_comes_from(shared: Served) -> None:
    catalog = shared.app.state.service.catalog
    secret, _ = await catalog.create_key(["search"], name="elsewhere")
    sent = {"X-API-Key": secret, "Host": "search.example", "Origin": "https://shop.example"}
    assert (await shared.client.post("/api/search", json=QUERY, headers=sent)).status_code == 200
    problem(
        await shared.client.get("/api/images", headers={**sent, "X-API-Key": "vi_x"}), 401, "unauthenticated"
    )


async def test_without_open_access_keys_alone_decide(serve: Any) -> None:
    async with serve(spec_document(access={"mode": "keys"})) as served:
        answer = await served.client.get("/api/images", headers={"Host": "search.example"})
        problem(answer, 401, "unauthenticated")
