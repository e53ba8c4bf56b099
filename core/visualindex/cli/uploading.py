"""The engine of `visualindex ingest`: many pictures on their way at once, each acknowledged or accounted for."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from visualindex.api.images import ImageRequest
from visualindex.cli.journal import Journal, signature
from visualindex.cli.sources import Entry, Item, Unusable
from visualindex.client import AsyncClient
from visualindex.errors import ProblemError, ProblemType

Outcome = Literal["stored", "skipped", "failed"]

_HOPELESS = frozenset(
    {
        ProblemType.UNAUTHENTICATED,
        ProblemType.FORBIDDEN,
        ProblemType.INDEX_NOT_FOUND,
        ProblemType.STORAGE_FULL,
        ProblemType.OVERLOADED,
        ProblemType.UNAVAILABLE,
    }
)
"""Problems that every further picture would meet too; the last two have been repeated by the client before."""


@dataclass(frozen=True)
class Failure:
    """A picture that was not stored."""

    place: str
    key: str | None
    problem: dict[str, Any]


@dataclass
class Tally:
    """How far an ingest has come."""

    stored: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    stopped: ProblemError | None = None
    """Why it ended before the last picture, if it did."""


async def upload(
    client: AsyncClient,
    index: str | None,
    entries: Iterable[Entry],
    journal: Journal,
    *,
    concurrency: int,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> Tally:
    """Send every entry that the journal does not hold, `concurrency` at a time.

    A refused picture is a failure and the rest goes on; a problem that all would meet stops the run.
    """
    run = _Run(client, index, journal, report)
    source = iter(entries)
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(run.work(source))
    return run.tally


class _Run:
    def __init__(
        self, client: AsyncClient, index: str | None, journal: Journal, report: Callable[[Outcome], None]
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._index = index
        self._journal = journal
        self._report = report
        self._reading = asyncio.Lock()

    async def work(self, source: Iterator[Entry]) -> None:
        """Take entries until there are none, or until going on makes no sense."""
        while self.tally.stopped is None:
            async with self._reading:
                entry = await asyncio.to_thread(next, source, None)
            if entry is None:
                return
            self._report(await self._handle(entry))

    async def _handle(self, entry: Entry) -> Outcome:
        if isinstance(entry, Unusable):
            return self._failed(entry.place, None, ProblemError(ProblemType.INVALID_REQUEST, entry.reason))
        try:
            return await self._store(entry)
        except OSError as error:
            detail = f"{entry.path} cannot be read: {error.strerror or error}"
            return self._failed(entry.place, entry.key, ProblemError(ProblemType.INVALID_IMAGE, detail))
        except ValidationError as error:
            detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            return self._failed(entry.place, entry.key, ProblemError(ProblemType.INVALID_REQUEST, detail))
        except ProblemError as problem:
            if problem.type in _HOPELESS:
                self.tally.stopped = problem
            return self._failed(entry.place, entry.key, problem)

    async def _store(self, item: Item) -> Outcome:
        mark = await asyncio.to_thread(signature, item)
        if self._journal.holds(item.key, mark):
            self.tally.skipped += 1
            return "skipped"
        data = None if item.path is None else await asyncio.to_thread(item.path.read_bytes)
        await self._client.put_image(_request(item, self._index), image=data)
        self._journal.add(item.key, mark)
        self.tally.stored += 1
        return "stored"

    def _failed(self, place: str, key: str | None, problem: ProblemError) -> Outcome:
        self.tally.failures.append(Failure(place, key, problem.document()))
        return "failed"


def _request(item: Item, index: str | None) -> ImageRequest:
    fields = {
        "index": index,
        "key": item.key,
        "category": item.category,
        "url": item.url,
        "image_url": item.image_url,
        "metadata": dict(item.metadata) or None,
    }
    return ImageRequest.model_validate({name: value for name, value in fields.items() if value is not None})
