"""One shard of a generation: read, built, measured and uploaded. What is left of it is a description, and no file.

Shards are built wherever there is room, several at once, and end in any order. Nothing that is said of one depends on
that.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from visualindex.building.patches import Kept, StoredPatches, write_patches
from visualindex.building.segments import FLAT, SegmentBuilt, build_segment
from visualindex.building.spool import Spool
from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.catalog import Catalog, Fence, Rows
from visualindex.generations import Manifest, ShardFiles, publish_shard
from visualindex.generations.threads import in_thread
from visualindex.identity import buckets_of_shard
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex

_READ_ROWS = 20_000

Say = Callable[[str, int, int], None]
"""Told the phase, and how much of it is done: rows or shards, of how many."""
Turn = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(frozen=True)
class Task:
    """What the builders of all shards of one generation are told; plain values, which travel to other machines."""

    resource: VisualIndex
    manifest: Manifest
    """Without shards, and without what only all of them together tell."""
    fence: Fence | None
    """Of the job that builds."""
    threads: int
    """Of one builder."""
    measured: Coefficients = DEFAULTS
    """With what attributes of these images take."""

    @property
    def shards(self) -> int:
        """How many there are."""
        return self.resource.spec.index.shards


@dataclass(frozen=True)
class ShardBuilt:
    """A shard that is in the object store, as the manifest will have it."""

    shard: int
    files: ShardFiles
    family: str
    recall: dict[str, Any]
    patches: int
    """Images that have some."""


class ShardBuilder:
    """Builds shards with what one process has."""

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        task: Task,
        *,
        patches: Kept | None = None,
        say: Say = lambda *_: None,
        wanted: Callable[[], bool] = lambda: True,
        reading: Turn = nullcontext,
    ) -> None:
        """`reading` is entered while a shard is read, which takes a connection and is no faster for two at a time."""
        self._catalog = catalog
        self._store = store
        self._task = task
        self._kept = patches
        self._say = say
        self._wanted = wanted
        self._reading = reading

    async def build(self, shard: int, scratch: Path) -> ShardBuilt:
        """Build one shard in the folder `scratch`, which is made and removed.

        Raises ProblemError: of the catalog and the object store, STORAGE_FULL for a shard that would not fit
        `memoryPerShard`, CONFLICT when the job is no longer the caller's; `visualindex.ann.graph.Abandoned` soon after
        `wanted` turns false.
        """
        directory = scratch / "files"
        try:
            await in_thread(partial(directory.mkdir, parents=True))
            built = await self._segment(shard, scratch, directory)
            patches = 0 if self._kept is None else await self._patches(shard, directory, self._kept)
            files = await self._upload(shard, built.rows, directory)
        finally:
            await in_thread(partial(shutil.rmtree, scratch, ignore_errors=True))
        return ShardBuilt(shard, files, built.recipe.family, _recall(built), patches)

    async def _segment(self, shard: int, scratch: Path, directory: Path) -> SegmentBuilt:
        spool = Spool(scratch, self._task.manifest.dimension)
        async with self._reading():
            with spool:
                await self._read(shard, spool)
        build = partial(
            build_segment, spool, directory, self._task.resource.spec.index, threads=self._task.threads
        )
        built = await _while_wanted(build, self._wanted)
        spool.remove()
        return built

    async def _read(self, shard: int, spool: Spool) -> None:
        """Each shard is of its own moment; from the generation's watermark on the log brings all of them to the same."""
        manifest = self._task.manifest
        follower = self._catalog.follow(
            manifest.index, manifest.fingerprint, self._buckets(shard), dimension=manifest.dimension
        )
        rows = 0
        parts = cast("AsyncGenerator[Rows]", follower.load(_READ_ROWS))
        async with aclosing(parts):
            async for part in parts:
                await in_thread(spool.add, part)
                rows += len(part)
                self._say(f"reading shard {shard}", rows, 0)

    async def _patches(self, shard: int, directory: Path, kept: Kept) -> int:
        """Write the patches beside the segment."""
        of = self._task.manifest
        say = partial(self._say, f"gathering patches of shard {shard}")
        vectors = of.fingerprint, of.dimension
        async with StoredPatches(self._catalog, self._store, of.index, *vectors, kept) as stored:
            return await write_patches(
                stored, directory, of.dimension, self._buckets(shard), say=say, wanted=self._wanted
            )

    async def _upload(self, shard: int, images: int, directory: Path) -> ShardFiles:
        turn = partial(self._catalog.publishing_turn, self._task.manifest.index, self._task.fence)
        what = self._task.manifest, self._buckets(shard), images, directory
        return await publish_shard(self._store, *what, turn=turn)

    def _buckets(self, shard: int) -> range:
        return buckets_of_shard(shard, self._task.shards)


async def _while_wanted(build: Callable[..., SegmentBuilt], wanted: Callable[[], bool]) -> SegmentBuilt:
    """In a thread, which is told when this is cancelled, because another shard failed: it would go on for hours."""
    ended = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(build, wanted=lambda: wanted() and not ended.is_set()))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        ended.set()
        await asyncio.gather(running, return_exceptions=True)
        raise


def _recall(built: SegmentBuilt) -> dict[str, Any]:
    """What was measured, as a manifest has it."""
    if built.recipe.family == FLAT or built.recall is None:
        return {"family": FLAT, "recall": 1.0, "target": built.recipe.target_recall, "met": True, "curve": []}
    return {"family": built.recipe.family, **asdict(built.recall)}
