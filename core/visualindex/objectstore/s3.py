"""An S3-compatible bucket as an object store, through the `minio` client in threads of its own."""

import functools
import io
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime

from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from visualindex.objectstore import s3_problems
from visualindex.objectstore.base import ObjectStat, checked_key, checked_prefix, missing
from visualindex.objectstore.probe import round_trip
from visualindex.objectstore.s3_requests import S3Requests
from visualindex.spec.models import S3Spec

_PAGE = 1000
"""Keys per listing and per deletion request: the most that S3 takes."""
_PART_BYTES = 64 * 1024**2
"""Above the largest image by default, so that an original is one atomic request."""


class S3ObjectStore:
    """Objects in a bucket. See `ObjectStore` for what it promises."""

    def __init__(self, spec: S3Spec, access_key: str, secret_key: str, *, threads: int = 16) -> None:
        """Connects to nothing yet: `check` tells whether the bucket can be used."""
        self._spec = spec
        self._prefix = f"{spec.prefix.strip('/')}/" if spec.prefix.strip("/") else ""
        self._requests = S3Requests(spec, access_key, secret_key, threads=threads)

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Write an object whole or not at all, replacing what the key named before."""
        await self._requests.run(functools.partial(self._put, self._name(key), data, content_type))

    async def get(self, key: str) -> bytes:
        """The content of an object; NOT_FOUND when there is none."""
        try:
            return await self._requests.run(functools.partial(self._get, self._name(key)))
        except S3Error as error:
            raise missing(key) from error

    async def stat(self, key: str) -> ObjectStat | None:
        """Size, etag and media type of an object, or None when there is none."""
        try:
            return await self._requests.run(functools.partial(self._stat, self._name(key)))
        except S3Error:
            return None

    async def verify(self, key: str) -> ObjectStat | None:
        """As `stat`: the server compares what it holds with digests of its own, and mends or refuses it."""
        return await self.stat(key)

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key that names none is no error."""
        names = iter([self._name(key) for key in keys])
        while batch := list(itertools.islice(names, _PAGE)):
            await self._requests.run(functools.partial(self._delete, batch))

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Every key that starts with `prefix`, a page of the bucket at a time."""
        start = self._prefix + checked_prefix(prefix)
        after: str | None = None
        while page := await self._requests.run(functools.partial(self._page, start, after)):
            for name in page:
                yield name.removeprefix(self._prefix)
            after = page[-1]

    async def check(self) -> None:
        """Write, read back and delete a small object."""
        await round_trip(self)

    async def close(self) -> None:
        """Wait for running requests, then release threads and connections."""
        await self._requests.close()

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _put(self, name: str, data: bytes, content_type: str) -> None:
        self._requests.client.put_object(
            self._spec.bucket, name, io.BytesIO(data), len(data), content_type, part_size=_PART_BYTES
        )

    def _get(self, name: str) -> bytes:
        response = self._requests.client.get_object(self._spec.bucket, name)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def _stat(self, name: str) -> ObjectStat:
        found = self._requests.client.stat_object(self._spec.bucket, name)
        return ObjectStat(
            size=found.size or 0,
            etag=found.etag or "",
            content_type=found.content_type or "application/octet-stream",
            modified=found.last_modified or datetime.fromtimestamp(0, UTC),
        )

    def _delete(self, names: Sequence[str]) -> None:
        failures = list(
            self._requests.client.remove_objects(self._spec.bucket, [DeleteObject(name) for name in names])
        )
        if failures:
            raise s3_problems.DeletionError(failures[0].code or "unknown", len(failures))

    def _page(self, start: str, after: str | None) -> Sequence[str]:
        found = self._requests.client.list_objects(
            self._spec.bucket, prefix=start, recursive=True, start_after=after
        )
        return [item.object_name for item in itertools.islice(found, _PAGE) if item.object_name]
