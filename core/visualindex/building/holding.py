"""What keeps the ground under a build that may take days: the log since its beginning, and the shards it has uploaded."""

import asyncio
import logging
import time
import uuid
from types import TracebackType
from typing import Self

from visualindex.catalog import Catalog, Position
from visualindex.errors import ProblemError
from visualindex.generations import Manifest, ShardFiles, hold, let_go
from visualindex.objectstore import ObjectStore

logger = logging.getLogger(__name__)

_RENEW_S = 20.0
_HOLD_AGAIN_S = 3600.0
"""An uploaded shard is held for a day: see `visualindex.generations.hold`."""


class Holding:
    """Holds both until it is left; shards of a build that came to nothing are let go then, for the next retirement."""

    def __init__(self, catalog: Catalog, store: ObjectStore, index: str) -> None:
        self._catalog = catalog
        self._store = store
        self._index = index
        self._name = f"build-{uuid.uuid4().hex[:12]}"
        self._manifest: Manifest | None = None
        self._shards: list[ShardFiles] = []
        self._held_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self.position: Position

    async def __aenter__(self) -> Self:
        self.position = await self._catalog.begin_build(self._index, self._name)
        self._task = asyncio.create_task(self._renew(), name="build-holding")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._catalog.end_build(self._index, self._name)
            if self._manifest is not None and kind is not None:
                await let_go(self._store, self._manifest, self._shards)
        except ProblemError as problem:
            logger.warning("what a build held ends by itself later: %s", problem.detail)

    def uploaded(self, manifest: Manifest, shard: ShardFiles) -> None:
        """Hold a shard from now on. `manifest` is the one that it was uploaded with."""
        self._manifest = manifest
        self._shards.append(shard)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                await self._catalog.keep_build(self._index, self._name, self.position)
                await self._hold_again()
            except ProblemError as problem:
                logger.warning("what a build needs cannot be held for now: %s", problem.detail)

    async def _hold_again(self) -> None:
        if self._manifest is None or time.monotonic() - self._held_at < _HOLD_AGAIN_S:
            return
        for shard in list(self._shards):
            await hold(self._store, self._manifest, shard)
        self._held_at = time.monotonic()
