"""Thumbnails made when they are first asked for: a write pays for none, and only those that are looked at are stored.

None outlives its original. An erasure deletes the original first and the thumbnails after it (`erasing`); whoever made a
thumbnail looks, once it is stored, whether the original is still there. A thumbnail that was stored before the erasure
came to the thumbnails is deleted by the erasure; one stored later is deleted by its maker, who finds the original gone. A
maker that is killed between the two leaves one behind, for which the thumbnails are deleted once more when the mark of the
erasure ends (`Erasures.forget_erasures`), a day later.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodeJob, DecodePool
from visualindex.objectstore import ObjectStore, original_key, thumbnail_key

logger = logging.getLogger(__name__)

_NO_PICTURE = {
    ProblemType.UNSUPPORTED_IMAGE,
    ProblemType.INVALID_IMAGE,
    ProblemType.IMAGE_TOO_LARGE,
    ProblemType.DECODE_TIMEOUT,
}
"""What the decoders may say of an original that was taken under other limits."""


@dataclass
class _Fetch:
    """One thumbnail on its way to `waiting` callers."""

    waiting: int = 0
    task: asyncio.Task[bytes | None] = field(init=False)


class Thumbnails:
    """The thumbnails of one index: read from the store, or made, stored and answered.

    However many callers ask for one at a time, it is read or made once. At most `at_once` are made at a time, so that
    searches find decoders free; the others wait here and not in the pool's bounded queue.
    """

    def __init__(self, index: str, store: ObjectStore, pool: DecodePool, *, at_once: int) -> None:
        self._index = index
        self._store = store
        self._pool = pool
        self._turns = asyncio.Semaphore(at_once)
        self._fetches: dict[str, _Fetch] = {}
        self._open = True

    async def get(self, digest: bytes, size: int) -> bytes | None:
        """The WebP of the original with that 32-byte digest, its longest edge at most `size` pixels.

        None when there is no such original, or none that can be decoded. Raises ProblemError as the store's `get` and the
        pool's `decode` do. A caller that stops waiting disturbs no other.
        """
        key = thumbnail_key(self._index, digest, size)
        fetch = self._fetches.get(key) or self._begin(key, digest, size)
        fetch.waiting += 1
        try:
            return await asyncio.shield(fetch.task)
        finally:
            fetch.waiting -= 1

    async def close(self) -> None:
        """Wait until what is being made is stored or deleted again; what stands in line is not made any more."""
        self._open = False
        await asyncio.gather(*(fetch.task for fetch in self._fetches.values()), return_exceptions=True)

    def _begin(self, key: str, digest: bytes, size: int) -> _Fetch:
        fetch = self._fetches[key] = _Fetch()
        fetch.task = asyncio.create_task(self._fetch(fetch, key, digest, size))
        fetch.task.add_done_callback(_look_at)
        return fetch

    async def _fetch(self, fetch: _Fetch, key: str, digest: bytes, size: int) -> bytes | None:
        try:
            stored = await self._read(key)
            if stored is not None:
                return stored
            async with self._turns:
                if not self._open:
                    raise ProblemError(
                        ProblemType.UNAVAILABLE, "The gateway is stopping: try another replica."
                    )
                if not fetch.waiting:
                    return None  # nobody sees this: all gave up while it stood in line
                made = await self._make(digest, size)
            return made if made is not None and await self._keep(key, digest, made) else None
        finally:
            del self._fetches[key]

    async def _make(self, digest: bytes, size: int) -> bytes | None:
        original = await self._read(original_key(self._index, digest))
        if original is None:
            return None
        try:
            decoded = await self._pool.decode(DecodeJob(original, None, thumbnails=(size,)))
        except ProblemError as problem:
            if problem.type not in _NO_PICTURE:
                raise
            logger.warning("no thumbnail of %s in index %s: %s", digest.hex(), self._index, problem.detail)
            return None
        return decoded.thumbnails[size]

    async def _keep(self, key: str, digest: bytes, thumbnail: bytes) -> bool:
        """Store a thumbnail; False when its original was erased meanwhile, and then it is not stored."""
        try:
            await self._store.put(key, thumbnail, content_type="image/webp")
        except ProblemError as problem:  # a full store: the picture can be shown all the same
            logger.warning("a thumbnail of index %s was not stored: %s", self._index, problem.detail)
        # Also after a put that failed: the store may have done what it could not confirm.
        if await self._store.stat(original_key(self._index, digest)) is not None:
            return True
        await self._store.delete([key])
        return False

    async def _read(self, key: str) -> bytes | None:
        try:
            return await self._store.get(key)
        except ProblemError as problem:
            if problem.type is not ProblemType.NOT_FOUND:
                raise
            return None


def _look_at(task: asyncio.Task[bytes | None]) -> None:
    """An outcome that nobody waits for any more is no error."""
    if not task.cancelled():
        task.exception()
