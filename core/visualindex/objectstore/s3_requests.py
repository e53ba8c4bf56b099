"""Requests to an S3 server: in threads of their own, bounded in time, and repeated where that may help."""

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx
import urllib3
from minio import Minio
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from visualindex.errors import ProblemError
from visualindex.objectstore import s3_problems
from visualindex.spec.models import S3Spec

_T = TypeVar("_T")
_ATTEMPTS = 4
_RETRY_FOR_S = 10.0
_CONNECT_TIMEOUT_S = 3.0
_READ_TIMEOUT_S = 15.0


class S3Requests:
    """A client of one bucket's server, and how its requests are made.

    Connection errors and 5xx answers are tried again at most three times within ten seconds, with jitter; every
    request is idempotent. Waiting occupies no thread, so an outage does not starve other requests of threads.
    """

    def __init__(self, spec: S3Spec, access_key: str, secret_key: str, *, threads: int = 16) -> None:
        """Connects to nothing yet."""
        self._spec = spec
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="objectstore-s3")
        self._http = _connections(spec.secure, threads)
        self.client = Minio(
            spec.endpoint,
            access_key,
            secret_key,
            secure=spec.secure,
            region=spec.region,
            http_client=self._http,
        )

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in a thread with bounded retries; a missing object stays an `S3Error`, all else is a problem."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(s3_problems.is_transient),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_RETRY_FOR_S),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        try:
            return await retrying(self._in_thread, work)
        except ProblemError:
            raise
        except Exception as error:
            if s3_problems.is_missing_object(error):
                raise
            raise s3_problems.problem_of(error, self._spec) from error

    async def close(self) -> None:
        """Wait for running requests, then release threads and connections."""
        await asyncio.to_thread(self._pool.shutdown)
        for origin in self._http.pools.keys():  # noqa: SIM118 - this container refuses iteration
            # Clearing the manager alone leaves sockets open until the garbage collector comes by.
            self._http.pools[origin].close()
        self._http.clear()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _connections(secure: bool, threads: int) -> urllib3.PoolManager:
    context: ssl.SSLContext | None = httpx.create_ssl_context() if secure else None
    return urllib3.PoolManager(
        maxsize=threads,
        retries=False,
        timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
        ssl_context=context,
    )
