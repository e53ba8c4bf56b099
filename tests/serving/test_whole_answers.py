"""What uvicorn answers over a transport that keeps heads back is what it answers anyway; only in fewer writes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from visualindex_serving import whole_answers


class Writes(asyncio.Transport):
    """A transport that notes what reaches it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.written.append(b"".join(list_of_data))

    def close(self) -> None:
        self.written.append(b"closed")


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


async def test_a_head_goes_with_its_body() -> None:
    writes = Writes()
    transport = whole_answers.HeadsWait(writes)
    transport.write(HEAD)
    transport.write(b"body")
    transport.write(b"more")
    assert writes.written == [HEAD + b"body", b"more"]


async def test_a_head_that_nothing_follows_goes_alone_and_before_the_end() -> None:
    writes = Writes()
    transport = whole_answers.HeadsWait(writes)
    transport.write(HEAD)
    await asyncio.sleep(0)
    assert writes.written == [HEAD]
    transport.write(HEAD)
    transport.close()
    assert writes.written == [HEAD, HEAD, b"closed"]


@asynccontextmanager
async def served(monkeypatch: pytest.MonkeyPatch, go_on: asyncio.Event) -> AsyncIterator[httpx.AsyncClient]:
    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    async def slow(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            await go_on.wait()
            yield b"late"

        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/echo", echo, methods=["GET", "POST"]), Route("/slow", slow)])
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "as it was")
    whole_answers.install()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        running = asyncio.create_task(server.serve([listening]))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            yield client
        server.should_exit = True
        await running


async def test_a_server_answers_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()
    async with served(monkeypatch, go_on) as client:
        for body in (b"", b"short", b"x" * 1_000_000):
            assert (await client.post("/echo", content=body)).content == body
        assert (await client.head("/echo")).content == b""
        assert (await client.get("/nowhere")).status_code == 404
        continued = await client.post("/echo", content=b"asked first", headers={"Expect": "100-continue"})
        assert continued.content == b"asked first"
        async with client.stream("GET", "/slow") as answer:
            assert answer.status_code == 200  # the head has come, the body has not
            go_on.set()
            assert await answer.aread() == b"late"
