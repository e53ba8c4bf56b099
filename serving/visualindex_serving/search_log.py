"""Search logs, written off the request path: a bounded queue that drops rows, and counts them, before it slows."""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

R = TypeVar("R")

_QUEUE_ROWS = 5_000
_BATCH_ROWS = 500
_FLUSH_S = 0.5


class SearchLog(Generic[R]):
    """Collects rows and hands them on in batches; `offer` never waits."""

    def __init__(
        self, insert: Callable[[Sequence[R]], Awaitable[None]], dropped: Callable[[int], None]
    ) -> None:
        self._insert = insert
        self._dropped = dropped
        self._queue: asyncio.Queue[R] = asyncio.Queue(_QUEUE_ROWS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin writing in the background."""
        self._task = asyncio.create_task(self._run(), name="search-log")

    def offer(self, row: R) -> None:
        """Take a row, or drop and count it when the queue is full."""
        try:
            self._queue.put_nowait(row)
        except asyncio.QueueFull:
            self._dropped(1)

    async def close(self) -> None:
        """Write what is queued, once, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush(self._take())

    async def _run(self) -> None:
        while True:
            if self._queue.qsize() < _BATCH_ROWS:
                await asyncio.sleep(_FLUSH_S)
            await self._flush(self._take())

    def _take(self) -> list[R]:
        return [self._queue.get_nowait() for _ in range(min(self._queue.qsize(), _BATCH_ROWS))]

    async def _flush(self, rows: list[R]) -> None:
        if not rows:
            return
        try:
            await self._insert(rows)
        except Exception as exc:  # whatever it is, the next rows may be luckier, and searches must not notice
            self._dropped(len(rows))
            logger.warning("%d search log rows are dropped: %s", len(rows), exc)


def pseudonym(user_id: str, secret: bytes) -> str:
    """A keyed hash of a user id: stable inside one service, meaningless outside it."""
    return hmac.new(secret, user_id.encode(), hashlib.sha256).hexdigest()[:32]
