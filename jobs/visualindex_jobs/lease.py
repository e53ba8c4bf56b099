"""A job's hold on itself: renewed while it runs, with how far it is."""

import asyncio
import logging

from visualindex.ann.graph import Abandoned
from visualindex.catalog import LEASE_S, Catalog, Fence
from visualindex.errors import ProblemError
from visualindex_jobs import notice

logger = logging.getLogger(__name__)

_RENEW_S = 2.0


class Lease:
    """Renews in the background. `say` and `held` may be called from any thread."""

    def __init__(self, catalog: Catalog, fence: Fence) -> None:
        self._catalog = catalog
        self._fence = fence
        self._said = ("starting", 0, 0)
        self._held = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._renew(), name="job-lease")

    async def stop(self) -> None:
        """End; the job keeps what is left of its lease."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def say(self, phase: str, done: int, total: int) -> None:
        """Note how far the job is; it is told with the next renewal."""
        self._said = (phase, done, total)

    def held(self) -> bool:
        """Whether the job is still the caller's, who was not given notice either."""
        return self._held and not notice.given()

    def check(self) -> None:
        """Raise Abandoned when the job was cancelled or taken over, or its process is to end."""
        if not self.held():
            raise Abandoned

    def check_kept(self) -> None:
        """Raise Abandoned when the job was cancelled or taken over; a notice leaves time for what is under way."""
        if not self._held:
            raise Abandoned

    async def _renew(self) -> None:
        while self._held:
            try:
                self._held = await self._catalog.renew_job(self._fence, *self._said, LEASE_S)
            except ProblemError as problem:
                logger.warning("the job's lease cannot be renewed for now: %s", problem.detail)
            await asyncio.sleep(_RENEW_S)
