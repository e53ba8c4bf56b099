"""A batch ingest: each source in chunks, each chunk prepared while the one before it is encoded and written."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from visualindex.api.ingesting import IngestRequest, IngestSource, SourceResult
from visualindex.catalog import Catalog, ChangedMeanwhileError, Fence, ImageWrite, LacksVectorError
from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching import SafeFetcher
from visualindex.ingesting.encoding import Encoding, writes_of
from visualindex.ingesting.entries import Entry, Refusal, Source, Step
from visualindex.ingesting.fields import image_id_of
from visualindex.ingesting.ledger import Ledger, Noted
from visualindex.ingesting.opening import open_source
from visualindex.ingesting.places import Places
from visualindex.ingesting.preparing import (
    Outcome,
    Pending,
    Preparing,
    Ready,
    Restore,
    Unchanged,
    is_passing,
)
from visualindex.ingesting.removing import remove_gone
from visualindex.ingesting.source_objects import ObjectsSource
from visualindex.spec import VisualIndex

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXAMPLES = 20
"""Refused entries that the result itself carries."""
_COUNTED = ("read", "created", "replaced", "unchanged", "restored", "reused", "removed", "refused", "bytes")
_PATIENCE_S = 300.0
_RACES = 5
"""Times that a chunk is looked at whose images others keep deleting and replacing."""


class Say(Protocol):
    """Told how far a batch is: what it is doing, how much of it is done, and of how much (0: unknown)."""

    def __call__(self, phase: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class _Chunk:
    steps: Sequence[Step]

    @property
    def entries(self) -> list[Entry | Refusal]:
        return [step.entry for step in self.steps]

    def images(self, index: str) -> set[uuid.UUID]:
        """The images that its entries mean."""
        return {image_id_of(index, e.fields) for e in self.entries if isinstance(e, Entry)}


@dataclass(frozen=True)
class _Prepared:
    chunk: _Chunk
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Batches:
    """What a batch ingest works with. `wanted` raises once nobody wants it any more."""

    catalog: Catalog
    resource: VisualIndex
    fence: Fence | None
    places: Places
    fetcher: SafeFetcher
    preparing: Preparing
    encodings: Sequence[Encoding]
    ledger: Ledger
    scratch: Path
    say: Say
    wanted: Callable[[], None]

    async def run(self, request: IngestRequest) -> dict[str, Any]:
        """Take every source in, from where the ledger says it is; returns the job's result, which the ledger has, too.

        Raises ProblemError UNAVAILABLE or STORAGE_FULL when database or store stay unusable for five minutes, and
        LacksVectorError when the index is served with an encoder that is not at hand.
        """
        results = [await self._source(number, request) for number in range(len(request.sources))]
        totals = {name: sum(getattr(result, name) for result in results) for name in _COUNTED}
        return {**totals, "sources": [result.model_dump(mode="json") for result in results]}

    async def _source(self, number: int, request: IngestRequest) -> SourceResult:
        asked, count = request.sources[number], len(request.sources)
        noted = await self.ledger.latest(number)
        if noted is not None and noted.finished:
            return noted.result
        noted = noted or Noted(0, "", False, SourceResult(location=asked.location))
        phase = asked.location if count == 1 else f"{asked.location} ({number + 1} of {count})"
        refusals: list[Refusal] = []
        try:
            source = await self._patiently(
                partial(open_source, self.resource.spec, self.places, asked, self.fetcher, self.scratch)
            )
            noted = await self._chunks_of(number, source, request.chunk, noted, phase)
            noted = await self._cleared(source, asked, noted)
        except ProblemError as problem:
            if is_passing(problem) or problem.type is ProblemType.CONFLICT:
                raise
            noted = await self.ledger.latest(number) or noted
            refusals = [Refusal(asked.location, None, problem)]
            counted = Noted(noted.chunk, noted.cursor, False, _counted(noted.result, [], refusals))
            noted = _with(counted, state="broken-off")
        done = Noted(noted.chunk + 1, noted.cursor, True, noted.result)
        await self.ledger.note(number, done, refusals)
        return done.result

    async def _chunks_of(self, number: int, source: Source, size: int, noted: Noted, phase: str) -> Noted:
        """Prepares a chunk while the one before it is encoded, except where both mean the same image."""
        name = self.resource.name
        waiting: _Prepared | None = None
        steps = cast("Any", source.steps(noted.cursor))
        broken: ProblemError | None = None
        async with aclosing(steps):
            async for part in _chunked(steps, size):
                if isinstance(part, ProblemError):
                    broken = part
                    continue
                self.wanted()
                if waiting is not None and waiting.chunk.images(name) & part.images(name):
                    noted, waiting = await self._commit(number, waiting, noted), None
                noted, waiting = await self._both(number, part, waiting, noted)
                self.say(phase, noted.result.read, source.total)
        if waiting is not None:
            noted = await self._commit(number, waiting, noted)
            self.say(phase, noted.result.read, source.total)
        if broken is not None:
            raise broken
        return noted

    async def _both(
        self, number: int, chunk: _Chunk, waiting: _Prepared | None, noted: Noted
    ) -> tuple[Noted, _Prepared]:
        """Prepare `chunk` and commit what waits, side by side."""
        prepare = asyncio.create_task(self._patiently(partial(self.preparing.all_of, chunk.entries)))
        try:
            if waiting is not None:
                noted = await self._commit(number, waiting, noted)
            return noted, _Prepared(chunk, await prepare)
        except BaseException:
            prepare.cancel()
            await asyncio.gather(prepare, return_exceptions=True)
            raise

    async def _commit(self, number: int, prepared: _Prepared, noted: Noted) -> Noted:
        self.wanted()
        chunk = prepared.chunk
        outcomes, created = await self._written(chunk, prepared.outcomes)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        result = _counted(noted.result, outcomes, refusals, created)
        done = Noted(noted.chunk + 1, chunk.steps[-1].cursor, False, result)
        await self._patiently(partial(self.ledger.note, number, done, refusals))
        return done

    async def _written(self, chunk: _Chunk, outcomes: list[Outcome]) -> tuple[list[Outcome], int]:
        """What the entries came to, and how many images are new; looked at again where they changed meanwhile."""
        for _ in range(_RACES):
            try:
                return outcomes, await self._patiently(partial(self._write, chunk, outcomes))
            except ChangedMeanwhileError:
                outcomes = await self._patiently(partial(self.preparing.all_of, chunk.entries))
        return outcomes, await self._patiently(partial(self._write, chunk, outcomes))

    async def _encoded(self, chunk: _Chunk, outcomes: list[Outcome]) -> list[ImageWrite]:
        """The rows of the pictures, in their order; those that the encoder makes nothing of become refusals."""
        pending = {place: outcome for place, outcome in enumerate(outcomes) if isinstance(outcome, Pending)}
        made = await writes_of(self.encodings, list(pending.values()))
        for place, write in zip(pending, made, strict=True):
            entry = chunk.entries[place]
            if isinstance(write, ProblemError) and isinstance(entry, Entry):
                outcomes[place] = Refusal(entry.place, entry.fields.key, write)
        return [write for write in made if isinstance(write, ImageWrite)]

    async def _write(self, chunk: _Chunk, outcomes: list[Outcome]) -> int:
        """Write the rows and where they came from; returns how many images are new."""
        encoded = iter(await self._encoded(chunk, outcomes))
        writes: dict[uuid.UUID, ImageWrite] = {}
        restores: dict[bytes, Restore] = {}
        origins = []
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                continue
            if outcome.origin is not None:
                origins.append(outcome.origin)
            if not isinstance(outcome, Unchanged):
                write = outcome.write if isinstance(outcome, Ready) else next(encoded)
                writes.pop(write.image_id, None)  # of several of one image the last one counts
                writes[write.image_id] = write
                restores[write.content_digest] = outcome.restore
        latest = list({(origin.place, origin.object_key): origin for origin in origins}.values())

        async def restore(digest: bytes) -> None:
            await restores[digest](digest)

        name = self.resource.name
        if not writes:
            await self.catalog.note_origins(name, latest, self.fence)
            return 0
        written = await self.catalog.put_images(
            name, list(writes.values()), ensure_objects=restore, origins=latest, fence=self.fence
        )
        return sum(one.created for one in written)

    async def _cleared(self, source: Source, asked: IngestSource, noted: Noted) -> Noted:
        if not asked.remove_missing or not isinstance(source, ObjectsSource):
            return noted
        if noted.result.read == 0:
            note = "nothing was removed: the location lists no picture at all, which may be a mistake"
            return _with(noted, note=note)
        removing = partial(remove_gone, self.catalog, self.resource.name, source, self.fence, self.wanted)
        return _with(noted, removed=await self._patiently(removing))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeats work, which bears that, while database or store cannot be used."""

        def going_on(error: BaseException) -> bool:
            if not is_passing(error) or isinstance(error, LacksVectorError):
                return False
            self.wanted()
            logger.warning("the batch waits: %s", error)
            return True

        retrying = AsyncRetrying(
            retry=retry_if_exception(going_on),
            stop=stop_after_delay(_PATIENCE_S),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            reraise=True,
        )
        return await retrying(work)


async def _chunked(steps: AsyncIterator[Step], size: int) -> AsyncIterator[_Chunk | ProblemError]:
    """The steps in chunks, and at the end what broke the source off, if something did."""
    chunk: list[Step] = []
    broken: ProblemError | None = None
    try:
        async for step in steps:
            chunk.append(step)
            if len(chunk) == size:
                yield _Chunk(chunk)
                chunk = []
    except ProblemError as problem:
        broken = problem
    if chunk:
        yield _Chunk(chunk)
    if broken is not None:
        yield broken


def _counted(
    before: SourceResult, outcomes: Sequence[Outcome], refusals: Sequence[Refusal], created: int = 0
) -> SourceResult:
    unchanged = [outcome for outcome in outcomes if isinstance(outcome, Unchanged)]
    written = sum(isinstance(outcome, Ready | Pending) for outcome in outcomes)
    reused = sum(isinstance(outcome, Ready) and bool(outcome.write.embeddings) for outcome in outcomes)
    sizes = sum(o.size_bytes if isinstance(o, Pending | Unchanged) else 0 for o in outcomes)
    return before.model_copy(
        update={
            "read": before.read + len(outcomes),
            "created": before.created + created,
            "replaced": before.replaced + written - created,
            "unchanged": before.unchanged + len(unchanged),
            "restored": before.restored + sum(outcome.restored for outcome in unchanged),
            "reused": before.reused + reused,
            "refused": before.refused + len(refusals),
            "bytes": before.bytes + sizes,
            "examples": [*before.examples, *(one.document() for one in refusals)][:EXAMPLES],
        }
    )


def _with(noted: Noted, **fields: Any) -> Noted:
    return Noted(noted.chunk, noted.cursor, noted.finished, noted.result.model_copy(update=fields))
