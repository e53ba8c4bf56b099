"""What keeps the catalog tidy: every gateway trims logs, erases objects and forgets old rows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from visualindex.catalog import Catalog
from visualindex.errors import ProblemError
from visualindex_serving.erasing import erase_objects, erase_thumbnails
from visualindex_serving.index_service import IndexService

logger = logging.getLogger(__name__)

_PERIOD_S = 10.0


class Maintenance:
    """A background task. Its steps are bounded and safe to run in several gateways at once."""

    def __init__(self, catalog: Catalog, indexes: list[IndexService]) -> None:
        self._catalog = catalog
        self._indexes = {index.name: index for index in indexes}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="maintenance")

    async def close(self) -> None:
        """Stop; an interrupted round is taken up by the next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            for step in (self._erase, self._forget, self._trim, self._prune):
                await self._attempt(step)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except ProblemError as problem:
            logger.warning(
                "maintenance: %s will be tried again: %s", step.__name__.strip("_"), problem.detail
            )
        except Exception:
            logger.exception("maintenance: %s failed and will be tried again", step.__name__.strip("_"))

    async def _erase(self) -> None:
        async def erase(index: str, digest: bytes) -> None:
            await erase_objects(self._indexes[index], digest)

        await self._catalog.sweep_erasures(erase, self._indexes)

    async def _forget(self) -> None:
        async def erase_again(index: str, digest: bytes) -> None:
            await erase_thumbnails(self._indexes[index], digest)

        await self._catalog.forget_erasures(erase_again, self._indexes)

    async def _trim(self) -> None:
        for name in self._indexes:
            await self._catalog.trim_log(name)
            await self._catalog.prune_replicas(name)

    async def _prune(self) -> None:
        for name, index in self._indexes.items():
            await self._catalog.prune_search_logs(name, index.resource.spec.search_log.retention_days)
        await self._catalog.prune_idempotency()
