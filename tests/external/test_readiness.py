"""What a condition says of a gateway that cannot be searched."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from visualindex.api.health import Readiness
from visualindex.local.ports import pick
from visualindex_operator.readiness import answers

from .raw_server import raw_server, reply


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def _unready(reasons: dict[str, str]) -> str:
    return Readiness(status="unready", indexes=["chairs"], reasons=reasons).model_dump_json()


async def test_a_ready_gateway_leaves_nothing_to_say(client: httpx.AsyncClient) -> None:
    paths: list[str] = []
    async with raw_server(reply("200 OK", b'{"status": "ready"}'), paths) as url:
        assert await answers(f"{url}/chairs/", client) is None
    assert paths == ["/chairs/readyz"]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            "503 Unready",
            _unready({"database": "the database does not answer", "chairs": "no shard answers"}),
            "is not ready: database: the database does not answer; chairs: no shard answers.",
        ),
        ("503 Unready", "<html>", "answers with status 503."),
        ("503 Unready", "[]", "answers with status 503."),
        ("404 Not Found", "Path '/readyz' not found.", "no gateway is deployed there yet."),
        ("500 No", "", "answers with status 500."),
        ("200 OK", "x" * 100_000, "more than 65536 bytes."),
    ],
)
async def test_a_gateway_that_is_not_ready_gives_its_reasons(
    client: httpx.AsyncClient, status: str, body: str, reason: str
) -> None:
    async with raw_server(reply(status, body.encode())) as url:
        said = await answers(url, client)
    assert said is not None
    assert said.startswith(f"{url}/readyz")
    assert said.endswith(reason)


async def test_nobody_listening_is_said(client: httpx.AsyncClient) -> None:
    url = f"http://127.0.0.1:{pick(26880)}"
    said = await answers(url, client)
    assert said == f"{url}/readyz cannot be reached: All connection attempts failed."


async def test_a_gateway_that_hangs_is_given_three_seconds(client: httpx.AsyncClient) -> None:
    released = asyncio.Event()

    async def hang(_: asyncio.StreamWriter) -> None:
        await released.wait()

    async with raw_server(hang) as url:
        async with asyncio.timeout(4):
            said = await answers(url, client)
        released.set()
    assert said == f"{url}/readyz does not answer within 3 s."


@pytest.mark.parametrize(
    "url", ["http://ray:port", "http://127.0.0.1:99999", "http://127.0.0.1:0/chairs", "http://[zz]:80"]
)
async def test_what_is_no_url_is_said_with_the_field_to_correct(client: httpx.AsyncClient, url: str) -> None:
    said = await answers(url, client)
    assert said is not None
    assert said.startswith(f"{url}/readyz is no URL that can be asked")
    assert "spec.ray.external.serveUrl" in said
