"""What reranking asks of other parts: the rerankers' deployment, and the thumbnails of an index."""

import uuid
from collections.abc import Sequence
from typing import Any

from visualindex.errors import ProblemError
from visualindex.imaging import DecodeJob, DecodePool
from visualindex_serving.handles import call_twice
from visualindex_serving.records import Records
from visualindex_serving.rerank_messages import RerankAnswer, RerankQuery
from visualindex_serving.thumbnail_making import Thumbnails


class RemoteRerankers:
    """The reranker deployment behind its Serve handle; a replica that died under a call is replaced by another, once."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def rerank(self, query: RerankQuery) -> RerankAnswer:
        """See `Rerankers.rerank`."""
        answer: RerankAnswer = await call_twice(
            lambda: self._handle.rerank.remote(query), query.deadline, "reranking"
        )
        return answer

    async def verify(self, query: bytes, candidates: list[bytes | None], deadline: float) -> list[int]:
        """See `Rerankers.verify`."""
        counts: list[int] = await call_twice(
            lambda: self._handle.verify.remote(query, candidates, deadline), deadline, "verifying copies"
        )
        return counts


class StoredPictures:
    """Thumbnails of one index's images, of `size` pixels, made where nobody looked at them yet."""

    def __init__(self, pool: DecodePool, records: Records, thumbnails: Thumbnails, size: int) -> None:
        self._pool = pool
        self._records = records
        self._thumbnails = thumbnails
        self._size = size

    async def of_upload(self, data: bytes, deadline: float) -> bytes:
        """See `Pictures.of_upload`."""
        decoded = await self._pool.decode(DecodeJob(data, None, thumbnails=(self._size,)), deadline=deadline)
        return decoded.thumbnails[self._size]

    async def of_images(self, images: Sequence[uuid.UUID], versions: Sequence[int]) -> list[bytes | None]:
        """See `Pictures.of_images`."""
        records = await self._records.of(images, versions)
        return [await self._of(records[i].content_digest) if i in records else None for i in images]

    async def _of(self, digest: bytes) -> bytes | None:
        try:
            return await self._thumbnails.get(digest, self._size)
        except ProblemError:  # one picture that cannot be read is one that is not verified
            return None
