"""Two drivers of one rebuild, both real processes: one is frozen right before a commit, the other takes the job over and
ends it, and the first one wakes up. Whatever it was about to commit, nothing of it is.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from .collection import NAME, Collection, resource_of
from .stopping import REFUSED

COMMITS = {
    "set_job_ledger": "the plan",
    "commit_chunk": "a chunk",
    "propose_generation": "the record of the generation",
    "note_gate": "the verdict of the gate",
    "prepare_generation": "the activation",
    "end_job": "the end of the job",
}
REINDEX = ["reindex", "--place", "here", "--activate"]


class Driver:
    """A process that carries the rebuild out."""

    def __init__(self, things: Collection, name: str) -> None:
        self._things = things
        self._log = things.root / f"{name}.log"
        self._started: asyncio.subprocess.Process | None = None

    async def start(self, *command: str) -> None:
        things = self._things
        (things.root / "cache").exists() or (things.root / "cache").symlink_to(things.cache_dir)
        environment = {
            **os.environ,
            "VISUALINDEX_POSTGRES_DSN": things.dsn,
            "VISUALINDEX_STATE_DIR": str(things.root),
        }
        spec = things.root / "spec.yaml"
        spec.write_text(
            yaml.safe_dump(resource_of().model_dump(mode="json", by_alias=True, exclude_defaults=True))
        )
        with self._log.open("wb") as log:
            self._started = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", *command, *REINDEX, "--spec", str(spec)),
                env=environment,
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )

    @property
    def _process(self) -> asyncio.subprocess.Process:
        assert self._started is not None
        return self._started

    @property
    def told(self) -> str:
        return self._log.read_text(errors="replace")

    async def stopped(self) -> None:
        """Return once it has stopped itself."""
        process = psutil.Process(self._process.pid)
        while True:
            assert self._process.returncode is None, self.told[-3000:]
            if process.status() == psutil.STATUS_STOPPED:
                return
            await asyncio.sleep(0.05)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def ended(self) -> None:
        await self._process.wait()

    async def gone(self) -> None:
        """Leave nothing behind, whatever became of the test."""
        if self._started is not None and self._started.returncode is None:
            self._started.kill()
            await self._started.wait()


async def everything(things: Collection) -> dict[str, list[Any]]:
    """All that a rebuild writes into the catalog, and what is below its job in the store."""

    async def work(connection: Any) -> dict[str, list[Any]]:
        found = {}
        for table in ("jobs", "job_chunks", "generations", "image_embeddings", "quarantine"):
            rows = await connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = [row[0] for row in await rows.fetchall()]
        return found

    found = await things.catalog.connections.read(work)
    return {**found, "objects": sorted([key async for key in things.store.list(f"{NAME}/")])}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("commit", COMMITS, ids=lambda name: COMMITS[name])
async def test_a_driver_that_wakes_late_commits_nothing_of(things: Collection, commit: str) -> None:
    await things.put(*range(20))
    late, second = Driver(things, "late"), Driver(things, "second")
    await late.start("tests.reindexing.stopping", commit)
    try:
        await late.stopped()
        await things.execute("UPDATE jobs SET lease_until = now() - interval '1 s'")
        await second.start("visualindex_jobs")
        await second.ended()
        (job,) = await things.catalog.list_jobs(NAME)
        assert (job.state, job.fence.number) == ("done", 2), second.told[-3000:]
        assert job.result is not None
        assert job.result["activating"]
        # As when shards could not load it: preparing it once more would show.
        await things.catalog.fail_generation(NAME, job.result["generation"], "a shard has no room for it")
        before = await everything(things)
        late.wake()
        await late.ended()
        assert REFUSED in late.told, late.told[-3000:]
        assert await everything(things) == before
    finally:
        for driver in (late, second):
            await driver.gone()
