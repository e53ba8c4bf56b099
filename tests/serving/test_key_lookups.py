"""Looking keys up: one question for all who wait with the same key, whether it is answered or fails."""

import asyncio

import pytest
from starlette.requests import Request

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.access import Authenticator


def presented(key: str) -> Request:
    return Request({"type": "http", "headers": [(b"x-api-key", key.encode())]})


async def test_a_lookup_that_fails_fails_for_all_who_wait_for_it() -> None:
    asked, away = 0, asyncio.Event()

    async def authenticate(_: str) -> None:
        nonlocal asked
        asked += 1
        await away.wait()
        raise ProblemError(ProblemType.UNAVAILABLE, "The database does not answer.")

    authenticator = Authenticator(authenticate)
    waiting = [asyncio.create_task(authenticator.grant(presented("vi_same"))) for _ in range(20)]
    await asyncio.sleep(0)
    away.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(o, ProblemError) and o.type for o in outcomes] == [ProblemType.UNAVAILABLE] * 20
    assert asked == 1
    with pytest.raises(ProblemError):
        await authenticator.grant(presented("vi_same"))
    assert asked == 2


async def test_who_waits_for_a_caller_that_left_asks_anew() -> None:
    asked, forever = 0, asyncio.Event()

    async def authenticate(_: str) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await forever.wait()

    authenticator = Authenticator(authenticate)
    first, second = (asyncio.create_task(authenticator.grant(presented("vi_same"))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(ProblemError) as refused:
        await second
    assert (refused.value.type, asked) == (ProblemType.UNAUTHENTICATED, 2)
