"""A job's ledger in the object store: which images each chunk has, and which chunks are finished.

What a plan says is never changed: a holder of the job that wakes late writes under names of its own. Which plans are in
force the catalog says, so that a job which is resumed, by whomever, goes on with the same chunks.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import orjson

from visualindex.objectstore import (
    ObjectStore,
    done_key,
    done_prefix,
    erase_prefix,
    job_prefix,
    plan_key,
    todo_key,
)
from visualindex.reindexing.chunks import ARROW, Done, Todo, pack_done, pack_todo, unpack_done, unpack_todo
from visualindex.reindexing.patience import PATIENCE_S, patiently

logger = logging.getLogger(__name__)

_JSON = "application/json"
_T = TypeVar("_T")
Note = Callable[[BaseException | None], None]
"""Told of each repetition."""


@dataclass(frozen=True)
class Recipe:
    """What a resumed job must keep, so that every chunk comes out as if nothing had happened.

    `batch` is how many images the encoder takes at once, `hardware` what it runs on.
    """

    fingerprint: str
    features: str | None
    batch: int
    hardware: str
    threads: int


@dataclass(frozen=True)
class Plan:
    """A round of a job: `name` is made of its number and the fence of who planned it."""

    name: str
    chunks: int
    images: int
    chunk_images: int
    recipe: Recipe

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Plan":
        """The inverse of `to_json`."""
        own = {f.name: document[f.name] for f in fields(cls)}
        recipe = {f.name: own["recipe"][f.name] for f in fields(Recipe)}
        return cls(**{**own, "recipe": Recipe(**recipe)})


class Ledger:
    """The objects of one job. Reads and writes are tried again while the store cannot be used, for a few minutes."""

    def __init__(self, store: ObjectStore, index: str, job: str, *, patience_s: float = PATIENCE_S) -> None:
        self._store = store
        self._index = index
        self._job = job
        self._patience_s = patience_s
        self.retries = 0
        """Requests that were repeated, but for those of originals, which their chunks account for."""

    async def put_todo(self, plan: str, chunk: int, images: Sequence[Todo]) -> None:
        """Write the list of a chunk."""
        key = todo_key(self._index, self._job, plan, chunk)
        await self._again(lambda: self._store.put(key, pack_todo(images), content_type=ARROW))

    async def put_plan(self, plan: Plan) -> None:
        """Write a plan, after all of its lists."""
        key = plan_key(self._index, self._job, plan.name)
        data = orjson.dumps(plan.to_json(), option=orjson.OPT_INDENT_2)
        await self._again(lambda: self._store.put(key, data, content_type=_JSON))

    async def plan(self, name: str) -> Plan:
        """A plan. Raises ProblemError NOT_FOUND when its object is gone."""
        key = plan_key(self._index, self._job, name)
        return Plan.of(orjson.loads(await self._again(lambda: self._store.get(key))))

    async def todo(self, plan: str, chunk: int) -> list[Todo]:
        """The images of a chunk."""
        key = todo_key(self._index, self._job, plan, chunk)
        return unpack_todo(await self._again(lambda: self._store.get(key)), key)

    async def put_done(self, plan: str, chunk: int, done: Done) -> None:
        """Write a finished chunk."""
        key = done_key(self._index, self._job, plan, chunk)
        await self._again(lambda: self._store.put(key, pack_done(done), content_type=ARROW))

    async def done(self, plan: str, chunk: int) -> Done:
        """A finished chunk. Raises ProblemError NOT_FOUND when it is not finished."""
        key = done_key(self._index, self._job, plan, chunk)
        return unpack_done(await self._again(lambda: self._store.get(key)), key)

    async def finished(self, plan: str) -> set[int]:
        """The chunks that are finished."""
        prefix = done_prefix(self._index, self._job, plan)

        async def listed() -> set[int]:
            names = [key.removeprefix(prefix) async for key in self._store.list(prefix)]
            return {int(name.removesuffix(".arrow")) for name in names}

        return await self._again(listed)

    async def original(self, key: str, note: Note) -> bytes:
        """The bytes of an original; `note` is told of each repetition, which `retries` leaves out. Raises NOT_FOUND."""

        def again(error: BaseException | None) -> None:
            note(error)
            self._warn(error)

        return await patiently(lambda: self._store.get(key), self._patience_s, again)

    async def erase(self) -> None:
        """Delete all of it."""
        await erase_prefix(self._store, job_prefix(self._index, self._job), in_time=lambda: True)

    async def _again(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await patiently(work, self._patience_s, self._note)

    def _note(self, error: BaseException | None) -> None:
        self.retries += 1
        self._warn(error)

    def _warn(self, error: BaseException | None) -> None:
        logger.warning("job %s asks the object store again: %s", self._job, error)
