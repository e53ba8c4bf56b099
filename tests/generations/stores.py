"""Object stores that fail or count: real ones, with what a test needs to know or to happen in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import ObjectStat, ObjectStore

Before = Callable[[str, str], Awaitable[None]]
"""Called with the operation and its key before it is carried out."""


class Observed:
    """`store`, with every operation counted by name and announced to `before` and `after`."""

    def __init__(self, store: ObjectStore, before: Before | None = None, after: Before | None = None) -> None:
        self._store = store
        self._before = before
        self._after = after
        self.seen: list[tuple[str, str]] = []

    def keys(self, operation: str) -> list[str]:
        """The keys that an operation was asked for, in order."""
        return [key for name, key in self.seen if name == operation]

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        await self._announce("put", key)
        await self._store.put(key, data, content_type=content_type)
        await self._done("put", key)

    async def get(self, key: str) -> bytes:
        await self._announce("get", key)
        data = await self._store.get(key)
        await self._done("get", key)
        return data

    async def stat(self, key: str) -> ObjectStat | None:
        await self._announce("stat", key)
        return await self._store.stat(key)

    async def verify(self, key: str) -> ObjectStat | None:
        await self._announce("verify", key)
        return await self._store.verify(key)

    async def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            await self._announce("delete", key)
            await self._store.delete([key])
            await self._done("delete", key)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        await self._announce("list", prefix)
        async for key in self._store.list(prefix):
            yield key

    async def check(self) -> None:
        await self._store.check()

    async def close(self) -> None:
        await self._store.close()

    async def _announce(self, operation: str, key: str) -> None:
        self.seen.append((operation, key))
        if self._before:
            await self._before(operation, key)

    async def _done(self, operation: str, key: str) -> None:
        if self._after:
            await self._after(operation, key)


class Fault:
    """Ends everything at the n-th operation it hears of, as a crash does: later ones fail as well."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.happened = False

    async def __call__(self, operation: str, key: str) -> None:
        self._left -= 1
        if self._left <= 0:
            self.happened = True
            await asyncio.sleep(0)
            raise ProblemError(ProblemType.UNAVAILABLE, f"the store is gone at {operation} {key}")


async def everything(store: ObjectStore) -> dict[str, bytes]:
    """All objects of a store."""
    return {key: await store.get(key) async for key in store.list("")}
