"""Ending background tasks for certain."""

import asyncio
from collections.abc import Collection
from typing import Any

_AGAIN_S = 0.5


async def ended(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until every one of them has ended; what they end with is not raised.

    One cancellation may be lost: what a driver meets while it is cancelled, such as a broken connection, takes its place,
    and so does a result that comes at that moment (`asyncio.wait_for` before Python 3.12).
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        ended, running = await asyncio.wait(running, timeout=_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # seen, so that asyncio does not complain
