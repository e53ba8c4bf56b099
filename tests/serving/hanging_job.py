"""`python -m tests.serving.hanging_job`: a task of Ray that never ends is waited for, given up, and its process is gone."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from visualindex_serving.background_jobs import or_killed


def hang(told: str) -> None:
    """Tell the process's id and go on for ever, as a thread does that hears of nothing."""
    Path(told).with_suffix(".part").write_text(str(os.getpid()))
    Path(told).with_suffix(".part").rename(told)
    while True:
        time.sleep(60)


def until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""
    while not condition():
        time.sleep(0.05)


async def main() -> None:
    """Print `killed` when the process is gone."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "pid"
        task: Any = ray.remote(max_retries=0)(hang)
        waiting = asyncio.create_task(or_killed(task.remote(str(told))))
        await asyncio.to_thread(until, told.exists)
        process = Path("/proc") / told.read_text()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(until, lambda: not process.exists())
    print("killed")  # noqa: T201 - told to the test


if __name__ == "__main__":
    ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=256 * 1024**2)
    asyncio.run(main())
