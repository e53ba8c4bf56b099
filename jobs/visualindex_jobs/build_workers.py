"""What runs on a worker of a Ray cluster for a build: a look at its room, and one shard from the catalog to the store.

Each opens what the worker's environment names and leaves no file behind, also where an earlier one was killed. A shard whose
worker is lost is built again elsewhere: its parts are named by their content, so that a repeat changes nothing.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from visualindex.building import ShardBuilder, ShardBuilt, Task
from visualindex.building.affording import afford
from visualindex.capacity.machine import Room, available_cpus, room
from visualindex.catalog import Catalog, Fence
from visualindex.errors import ProblemError
from visualindex.generations.threads import in_thread
from visualindex.objectstore.scratch import Scratch
from visualindex_jobs.opening import opened, state_dir

logger = logging.getLogger(__name__)

_NICENESS = 10
_LOOK_S = 2.0


def look() -> tuple[Room, int]:
    """The room and the CPUs of the machine that this runs on."""
    return room(_scratch_parent()), available_cpus()


def build_shard(task: Task, shard: int, features: str | None, *, beside: bool) -> ShardBuilt:
    """Build one shard of a generation. `beside` says that searches run on the same cores, which go first.

    Raises as `ShardBuilder.build`, and STORAGE_FULL where this machine has no room for it.
    """
    if beside:
        os.nice(_NICENESS)
    return asyncio.run(_build_shard(task, shard, features))


async def _build_shard(task: Task, shard: int, features: str | None) -> ShardBuilt:
    logger.info("building shard %d of %d", shard, task.shards)
    async with opened(task.resource, "build-shard") as found, _watched(found.catalog, task.fence) as watch:
        scratch = await in_thread(Scratch, _scratch_parent())
        try:
            await _afford(task, found.catalog, scratch.folder)
            builder = ShardBuilder(
                found.catalog, found.store, task, patches=found.kept(features), wanted=watch.holds
            )
            return await builder.build(shard, scratch.folder / f"shard-{shard}")
        finally:
            await in_thread(scratch.close)


async def _afford(task: Task, catalog: Catalog, folder: Path) -> None:
    """Whoever gave the work out has looked at one machine, and this may be another."""
    images = await catalog.count_images(task.manifest.index)
    alone = task.resource.spec.reindex.model_copy(update={"builders": 1})
    spec = task.resource.spec.model_copy(update={"reindex": alone})
    await in_thread(lambda: afford(spec, task.manifest.dimension, images, room(folder), task.measured))


def _scratch_parent() -> Path:
    return state_dir() / "cache" / "building" / "shards"


class _Watch:
    """Whether the job that builds is still its holder's."""

    def __init__(self) -> None:
        self._held = True

    def holds(self) -> bool:
        return self._held

    async def look(self, catalog: Catalog, fence: Fence) -> None:
        while self._held:
            await asyncio.sleep(_LOOK_S)
            try:
                self._held = await catalog.holds_job(fence)
            except ProblemError as problem:
                logger.warning("whether the build is still wanted cannot be asked: %s", problem.detail)


@asynccontextmanager
async def _watched(catalog: Catalog, fence: Fence | None) -> AsyncIterator[_Watch]:
    watch = _Watch()
    looking = partial(watch.look, catalog)
    task = None if fence is None else asyncio.create_task(looking(fence), name="build-watch")
    try:
        yield watch
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
