"""Several shards at once, in one process: Faiss works without Python's lock, so that threads of one process are enough."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from visualindex.building.affording import afford
from visualindex.building.patches import Kept
from visualindex.building.shard import Say, ShardBuilder, ShardBuilt, Task
from visualindex.capacity.coefficients import Coefficients
from visualindex.capacity.machine import room
from visualindex.catalog import Catalog
from visualindex.generations.threads import all_of, in_thread
from visualindex.objectstore import ObjectStore
from visualindex.spec import Spec


class Builders(Protocol):
    """Where the shards of a generation are built."""

    async def afford(
        self, spec: Spec, dimension: int, images: int, measured: Coefficients
    ) -> tuple[int, int]:
        """How many shards can be built at once, and the threads of each; `measured` is of these images' attributes.

        Raises ProblemError STORAGE_FULL that names the bytes when not even one can.
        """
        ...

    async def build(self, task: Task, at_once: int, done: Callable[[ShardBuilt], None]) -> None:
        """Build all shards, `at_once` at a time, and tell of each in whatever order they end.

        Raises as `ShardBuilder.build` whatever ends the first, once the others have ended.
        """
        ...


class Here:
    """In this process."""

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        scratch: Path,
        *,
        threads: int,
        patches: Kept | None,
        say: Say,
        wanted: Callable[[], bool],
    ) -> None:
        """`threads` are shared by all builders."""
        self._catalog = catalog
        self._store = store
        self._scratch = scratch
        self._threads = threads
        self._patches = patches
        self._say = say
        self._wanted = wanted

    async def afford(
        self, spec: Spec, dimension: int, images: int, measured: Coefficients
    ) -> tuple[int, int]:
        """See `Builders`."""
        found = await in_thread(room, self._scratch)
        at_once = afford(spec, dimension, images, found, measured, cpus=self._threads)
        return at_once, max(1, self._threads // at_once)

    async def build(self, task: Task, at_once: int, done: Callable[[ShardBuilt], None]) -> None:
        """See `Builders`. Shards are read one at a time, each while others are built."""
        reading = asyncio.Lock()
        builder = ShardBuilder(
            self._catalog,
            self._store,
            task,
            patches=self._patches,
            say=self._say if at_once == 1 else lambda *_: None,
            wanted=self._wanted,
            reading=lambda: reading,
        )
        shards = iter(range(task.shards))
        await all_of(self._some(builder, shards, done) for _ in range(at_once))

    async def _some(
        self, builder: ShardBuilder, shards: Iterator[int], done: Callable[[ShardBuilt], None]
    ) -> None:
        for shard in shards:
            done(await builder.build(shard, self._scratch / f"shard-{shard}"))
