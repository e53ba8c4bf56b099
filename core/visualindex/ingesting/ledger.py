"""What a batch ingest has done so far, in the object store: an object per chunk, so that a job that was killed goes on.

A chunk is noted when it is committed. What is noted of a source is how far it is and what came of all of it, so only the
last chunk is read.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import orjson

from visualindex.api.ingesting import SourceResult
from visualindex.ingesting.entries import Refusal
from visualindex.objectstore import ObjectStore, job_prefix

_JSON, _LINES = "application/json", "application/x-ndjson"


@dataclass(frozen=True)
class Noted:
    """How far a source is: chunks done, the cursor behind the last, and the result so far."""

    chunk: int
    cursor: str
    finished: bool
    result: SourceResult


class Ledger:
    """The ledger of one job."""

    def __init__(self, store: ObjectStore, index: str, job_id: uuid.UUID) -> None:
        self._store = store
        self._prefix = job_prefix(index, str(job_id))

    @property
    def refused(self) -> str:
        """What the keys of the lists of refused entries start with."""
        return f"{self._prefix}refused/"

    async def latest(self, source: int) -> Noted | None:
        """The last chunk of a source; None before the first."""
        prefix = f"{self._prefix}ledger/{source:03d}/"
        last = max([key async for key in self._store.list(prefix)], default=None)
        if last is None:
            return None
        document = orjson.loads(await self._store.get(last))
        result = SourceResult.model_validate(document["result"])
        return Noted(document["chunk"], document["cursor"], document["finished"], result)

    async def note(self, source: int, noted: Noted, refusals: Sequence[Refusal]) -> None:
        """Note a chunk that is committed, and what it refused."""
        name = f"{source:03d}/{noted.chunk:08d}"
        if refusals:
            lines = b"".join(orjson.dumps(refusal.document()) + b"\n" for refusal in refusals)
            await self._store.put(f"{self.refused}{name}.ndjson", lines, content_type=_LINES)
        document = {
            "chunk": noted.chunk,
            "cursor": noted.cursor,
            "finished": noted.finished,
            "result": noted.result.model_dump(mode="json"),
        }
        await self._store.put(f"{self._prefix}ledger/{name}.json", orjson.dumps(document), content_type=_JSON)

    async def forget(self) -> None:
        """Delete it, but for the lists of what was refused."""
        keys = [key async for key in self._store.list(f"{self._prefix}ledger/")]
        await self._store.delete(keys)


async def refused_lines(store: ObjectStore, index: str, job_id: uuid.UUID) -> AsyncIterator[bytes]:
    """The lists of what a job refused, in the order in which it read: NDJSON, a chunk at a time."""
    prefix = Ledger(store, index, job_id).refused
    for key in sorted([key async for key in store.list(prefix)]):
        yield await store.get(key)
