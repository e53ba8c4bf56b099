"""An S3-compatible bucket as an object store, through the `minio` client in threads of its own."""

import asyncio
import functools
import io
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from visualindex.objectstore import s3_problems
from visualindex.objectstore.base import ObjectStat, checked_key, checked_prefix, missing
from visualindex.objectstore.probe import round_trip
from visualindex.spec.models import S3Spec

_T = TypeVar("_T")
_PAGE = 1000
"""Keys per listing and per deletion request: the most that S3 takes."""
_PART_BYTES = 64 * 1024**2
"""Above the largest image by default, so that an original is one atomic request."""
_ATTEMPTS = 4
_RETRY_FOR_S = 10.0
_CONNECT_TIMEOUT_S = 3.0
_READ_TIMEOUT_S = 15.0


class S3ObjectStore:
    """Objects in a bucket. See `ObjectStore` for what it promises.

    Connection errors and 5xx answers are tried again at most three times within ten seconds, with jitter; every
    request is idempotent. Waiting occupies no thread, so an outage does not starve other requests of threads.
    """

    def __init__(self, spec: S3Spec, access_key: str, secret_key: str, *, threads: int = 16) -> None:
        """Connects to nothing yet: `check` tells whether the bucket can be used."""
        self._spec = spec
        self._prefix = f"{spec.prefix.strip('/')}/" if spec.prefix.strip("/") else ""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="objectstore-s3")
        self._http = _connections(spec.secure, threads)
        self._client = Minio(
            spec.endpoint,
            access_key,
            secret_key,
            secure=spec.secure,
            region=spec.region,
            http_client=self._http,
        )

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Write an object whole or not at all, replacing what the key named before."""
        await self._run(functools.partial(self._put, self._name(key), data, content_type))

    async def get(self, key: str) -> bytes:
        """The content of an object; NOT_FOUND when there is none."""
        try:
            return await self._run(functools.partial(self._get, self._name(key)))
        except S3Error as error:
            raise missing(key) from error

    async def stat(self, key: str) -> ObjectStat | None:
        """Size, etag and media type of an object, or None when there is none."""
        try:
            return await self._run(functools.partial(self._stat, self._name(key)))
        except S3Error:
            return None

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key that names none is no error."""
        names = iter([self._name(key) for key in keys])
        while batch := list(itertools.islice(names, _PAGE)):
            await self._run(functools.partial(self._delete, batch))

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Every key that starts with `prefix`, a page of the bucket at a time."""
        start = self._prefix + checked_prefix(prefix)
        after: str | None = None
        while page := await self._run(functools.partial(self._page, start, after)):
            for name in page:
                yield name.removeprefix(self._prefix)
            after = page[-1]

    async def check(self) -> None:
        """Write, read back and delete a small object."""
        await round_trip(self)

    async def close(self) -> None:
        """Wait for running requests, then release threads and connections."""
        await asyncio.to_thread(self._pool.shutdown)
        for origin in self._http.pools.keys():  # noqa: SIM118 - this container refuses iteration
            # Clearing the manager alone leaves sockets open until the garbage collector comes by.
            self._http.pools[origin].close()
        self._http.clear()

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    async def _run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in a thread with bounded retries; a missing object stays an `S3Error`, all else is a problem."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(s3_problems.is_transient),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_RETRY_FOR_S),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        try:
            return await retrying(self._in_thread, work)
        except Exception as error:
            if s3_problems.is_missing_object(error):
                raise
            raise s3_problems.problem_of(error, self._spec) from error

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _put(self, name: str, data: bytes, content_type: str) -> None:
        self._client.put_object(
            self._spec.bucket, name, io.BytesIO(data), len(data), content_type, part_size=_PART_BYTES
        )

    def _get(self, name: str) -> bytes:
        response = self._client.get_object(self._spec.bucket, name)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def _stat(self, name: str) -> ObjectStat:
        found = self._client.stat_object(self._spec.bucket, name)
        return ObjectStat(
            size=found.size or 0,
            etag=found.etag or "",
            content_type=found.content_type or "application/octet-stream",
            modified=found.last_modified or datetime.fromtimestamp(0, UTC),
        )

    def _delete(self, names: Sequence[str]) -> None:
        failures = list(
            self._client.remove_objects(self._spec.bucket, [DeleteObject(name) for name in names])
        )
        if failures:
            raise s3_problems.DeletionError(failures[0].code or "unknown", len(failures))

    def _page(self, start: str, after: str | None) -> Sequence[str]:
        found = self._client.list_objects(self._spec.bucket, prefix=start, recursive=True, start_after=after)
        return [item.object_name for item in itertools.islice(found, _PAGE) if item.object_name]


def _connections(secure: bool, threads: int) -> urllib3.PoolManager:
    context: ssl.SSLContext | None = httpx.create_ssl_context() if secure else None
    return urllib3.PoolManager(
        maxsize=threads,
        retries=False,
        timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
        ssl_context=context,
    )
