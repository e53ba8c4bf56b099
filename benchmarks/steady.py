"""Steady searches, and writes, in the background of something that is not asynchronous."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.ledger import Ledger
from benchmarks.traffic import Outcome, Traffic, counted

SEARCHES_PER_S = 4.0


@contextmanager
def searches(
    url: str,
    key: str,
    per_s: float = SEARCHES_PER_S,
    *,
    writes_per_s: float = 0,
    ledger: Ledger | None = None,
) -> Iterator[list[Outcome]]:
    """Searches from here to the end of the block; those still under way then are waited for and counted.

    Writes go on beside them where `writes_per_s` says so; what is acknowledged is noted in the `ledger`.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    traffic = Traffic(
        url, ledger or Ledger(), 1, searches_per_s=per_s, writes_per_s=writes_per_s, headers=headers
    )
    ended = threading.Event()

    async def send() -> None:
        async with traffic:
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(send(),))
    thread.start()
    try:
        yield traffic.outcomes
    finally:
        ended.set()
        thread.join()


def told(outcomes: list[Outcome]) -> str:
    """Failures by kind, for a table."""
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counted(outcomes).items())) or "0"
