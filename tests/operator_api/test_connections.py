"""How kopf reaches the API server: with few requests at once, and with credentials that are known again."""

import asyncio
from collections.abc import AsyncIterator

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.operator_api.waiting import until

from visualindex_operator.connections import AT_ONCE, Login, by


class Counting:
    """A server that answers when it is let go, and counts what it has in hand."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.in_hand: dict[str, int] = {"watch": 0, "other": 0}
        self.most = 0

    async def is_full(self) -> bool:
        return self.in_hand == {"watch": 2 * AT_ONCE, "other": AT_ONCE}

    async def answer(self, request: web.Request) -> web.Response:
        kind = "watch" if "watch" in request.query else "other"
        self.in_hand[kind] += 1
        self.most = max(self.most, self.in_hand["other"])
        await self.let_go.wait()
        self.in_hand[kind] -= 1
        return web.Response()


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
async def server(counting: Counting) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", counting.answer)
    found = TestServer(app)
    async with found:
        yield found


async def test_few_requests_are_under_way_at_once_and_watches_hold_none_up(
    counting: Counting, server: TestServer
) -> None:
    login = by(kopf.ConnectionInfo(server=str(server.make_url("/"))))

    async def ask(query: str) -> int:
        async with login.aiohttp_session.get(f"{login.server}{query}") as response:
            return response.status

    async with login.aiohttp_session, asyncio.TaskGroup() as group:
        watches = [group.create_task(ask("?watch=true")) for _ in range(2 * AT_ONCE)]
        others = [group.create_task(ask("objects")) for _ in range(3 * AT_ONCE)]
        await until(counting.is_full, 20, "all watches and no more than a few others are under way")
        counting.let_go.set()
    assert {task.result() for task in (*watches, *others)} == {200}
    assert counting.most == AT_ONCE


async def test_refused_credentials_are_known_again() -> None:
    """kopf, which logs in anew after a refusal, would otherwise do so without end."""

    def logged_in(token: str) -> Login:
        return by(kopf.ConnectionInfo(server="http://api.test", token=token))

    first, again, other = logged_in("token-a"), logged_in("token-a"), logged_in("token-b")
    async with first.aiohttp_session, again.aiohttp_session, other.aiohttp_session:
        assert first == again
        assert first != other
        assert "token-a" not in repr(first)
