"""A cluster that never finds a machine for a chunk: whoever gives up on it is not kept."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from visualindex_jobs.reindex_ray import OnRay


class _Waiting(OnRay):
    """In place of Ray Data: chunks that never come."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def _stream(self, plan: Any, chunks: Sequence[int]) -> Iterator[int]:
        self.asked.set()
        threading.Event().wait()
        yield from chunks


def test_a_job_that_ends_while_no_machine_is_had_does_not_keep_its_process() -> None:
    conveyor = _Waiting()

    async def cancelled() -> None:
        plan: Any = None  # nothing is read of it
        made = conveyor.make(plan, [0])
        first = asyncio.create_task(anext(made))
        await asyncio.to_thread(conveyor.asked.wait)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        await made.aclose()

    running = threading.Thread(target=asyncio.run, args=(cancelled(),), daemon=True)
    running.start()
    running.join(60)
    assert not running.is_alive()
