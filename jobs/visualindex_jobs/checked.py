"""What the parts of a check share: the index, its hold on the job, and the report they write."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from visualindex.api.checks import READ_SHARE
from visualindex.catalog import Catalog, JobRecord
from visualindex.checking import Report
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex
from visualindex_jobs.lease import Lease


@dataclass(frozen=True)
class Checked:
    """One check."""

    catalog: Catalog
    store: ObjectStore
    resource: VisualIndex
    fingerprint: str
    """Of the index's encoder."""
    job: JobRecord
    lease: Lease
    report: Report

    @property
    def index(self) -> str:
        """Its name."""
        return self.resource.name

    @property
    def repair(self) -> bool:
        """Whether what differs is to be mended."""
        return self.report.repair

    @property
    def read_share(self) -> float:
        """Share of the objects that are read whole."""
        return float(self.job.parameters.get("originals_share", READ_SHARE))

    async def is_right(self, key: str, right: Callable[[bytes], bool]) -> bool | None:
        """Whether the bytes of an object are those that its key names, by `right`; None where there is none any more."""
        return (await self.read(key, right))[0]

    async def read(self, key: str, right: Callable[[bytes], bool]) -> tuple[bool | None, bytes]:
        """What `is_right` says, and the bytes that it says it of."""
        try:
            data = await self.store.get(key)
        except ProblemError as problem:
            if problem.type is ProblemType.NOT_FOUND:
                return None, b""
            if problem.type is ProblemType.INTERNAL:  # the store found it damaged by itself
                return False, b""
            raise
        return await asyncio.to_thread(right, data), data

    def go_on(self, phase: str, done: int, total: int) -> None:
        """Say how far the check is. Raises Abandoned when it was cancelled or taken over."""
        self.lease.check()
        self.lease.say(phase, done, total)


class Breather:
    """Rests as long as it worked, so that a check takes half of what it could: searches come first."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def rest(self) -> None:
        """Pause."""
        await asyncio.sleep(time.perf_counter() - self._since)
        self._since = time.perf_counter()
