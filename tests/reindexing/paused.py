"""A driver with a catalog of its own that stands still before its first commit, as in a paused process."""

import asyncio
from collections.abc import Sequence
from typing import Any

from visualindex.catalog import Catalog, ChunkCommit, Fence, Refused
from visualindex.errors import ProblemError
from visualindex_jobs.reindex import Surroundings

from .collection import Collection


class _Standing(Catalog):
    """Waits in `commit_chunk` until it may go on."""

    driver: "Paused"

    async def commit_chunk(self, index: str, fence: Fence, chunk: ChunkCommit) -> Sequence[Refused]:
        self.driver.reached.set()
        await self.driver.go_on.wait()
        try:
            return await super().commit_chunk(index, fence, chunk)
        except ProblemError:
            self.driver.refused = True
            raise


class Paused:
    """`reached` is set where it stands; it goes on with `go_on`; `refused` tells that its commit was."""

    def __init__(self, things: Collection) -> None:
        self._things = things
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.refused = False

    def around(self, **spec: Any) -> Surroundings:
        catalog = _Standing(self._things.catalog.connections)
        catalog.driver = self
        return self._things.around(catalog, **spec)
