"""Waiting for what has to become so."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[bool]], seconds: float, what: str, every: float = 0.1) -> float:
    """Seconds until `holds` does. Fails when it takes longer than `seconds`."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(every)
    return time.monotonic() - began


async def quiet(look: Callable[[], Awaitable[object]], seconds: float, most: float = 60) -> None:
    """Until what `look` shows has stayed the same for so many seconds."""
    began = since = time.monotonic()
    seen = await look()
    while time.monotonic() - since < seconds:
        assert time.monotonic() - began < most, f"still changing after {most:g} s: {seen}"
        await asyncio.sleep(0.2)
        if (now := await look()) != seen:
            seen, since = now, time.monotonic()
