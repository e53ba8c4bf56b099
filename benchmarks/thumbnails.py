"""Thumbnails of pictures just written, each asked for twice: the first request makes it, the second reads it."""

import asyncio
import time
from collections.abc import Sequence

import httpx
import numpy as np

from benchmarks.load import Measured

CONNECTIONS = 4


def paths(url: str, most: int = 200) -> list[str]:
    """Where the middle-sized thumbnails of the newest images are."""
    answer = httpx.get(f"{url}/api/images", params={"limit": most}, trust_env=False, timeout=30)
    shown = [image["thumbnails"] for image in answer.raise_for_status().json()["images"]]
    return [sizes[sorted(sizes, key=int)[len(sizes) // 2]] for sizes in shown]


def run(url: str, wanted: Sequence[str]) -> Measured:
    """Ask for each once, over four connections. The client is this process."""
    cpu = time.process_time()
    taken, failed, seconds = asyncio.run(_ask(url, wanted))
    p50, p99 = np.percentile(taken, (50, 99)) * 1000
    return Measured(len(taken), seconds, failed, 0, float(p50), float(p99), time.process_time() - cpu)


async def _ask(url: str, wanted: Sequence[str]) -> tuple[list[float], int, float]:
    left, taken, failed = iter(wanted), list[float](), 0

    async def connection() -> None:
        nonlocal failed
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            for path in left:
                sent = time.perf_counter()
                answer = await client.get(path)
                taken.append(time.perf_counter() - sent)
                failed += answer.is_error

    started = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return taken, failed, time.perf_counter() - started
