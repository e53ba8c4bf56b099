"""Asking what an index depends on whether it works: its database, its object store, its own HTTP API."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from visualindex.catalog.inspection import Inspection, inspect
from visualindex.catalog.reaching import reach
from visualindex.catalog.reindex_inspection import fail_job
from visualindex.credentials import Credentials
from visualindex.errors import ProblemError
from visualindex.objectstore import open_store
from visualindex.spec.models import StorageSpec
from visualindex_operator.readiness import answers

T = TypeVar("T")
Clock = Callable[[], float]
"""Seconds that only grow."""

_TIMEOUT_S = 5.0


class Probes(Protocol):
    """What the operator asks of the world beside the API server."""

    async def database(self, dsn: str, index: str) -> Inspection | str:
        """What the database holds of an index, or in one line why it does not answer."""

    async def fail_job(self, dsn: str, job: str, problem: str) -> str | None:
        """Note in a job that nobody holds that it failed; None when it is noted, else why not, in one line."""

    async def ask_reindex(self, url: str, index: str, key: str) -> str | None:
        """Ask the service behind `url` for a rebuild that is to be served; None when it has taken it, else why not."""

    async def store(self, storage: StorageSpec, credentials: Credentials) -> str | None:
        """None when the object store works, else why not, in one line."""

    async def redis(self, address: str, password: str | None) -> str | None:
        """None when the Redis of a Ray head answers, else why not, in one line."""

    async def answers(self, url: str) -> str | None:
        """None when the index behind `url` answers searches, else why not, in one line."""

    async def close(self) -> None:
        """Closes the connections."""


class LiveProbes:
    """`Probes` over the network. Whatever happens takes seconds at most."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def database(self, dsn: str, index: str) -> Inspection | str:
        """See `Probes`."""
        try:
            return await inspect(dsn, index, timeout_s=_TIMEOUT_S)
        except ProblemError as problem:
            return await _unreachable(dsn) or problem.detail
        except Exception as error:
            return _unusable("spec.postgres names a database that cannot be asked", error)

    async def fail_job(self, dsn: str, job: str, problem: str) -> str | None:
        """See `Probes`."""
        try:
            await fail_job(dsn, UUID(job), problem, timeout_s=_TIMEOUT_S)
        except ProblemError as failure:
            return failure.detail
        return None

    async def ask_reindex(self, url: str, index: str, key: str) -> str | None:
        """See `Probes`."""
        headers, body = {"Authorization": f"Bearer {key}"}, {"activate": True}
        address = f"{url}/api/indexes/{index}/reindex"
        try:
            answer = await self._http.post(address, json=body, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            return f"{url} cannot be asked ({error or type(error).__name__})"
        if answer.is_success:
            return None
        return f"the service answers {answer.status_code}: {answer.text[:200]}"

    async def store(self, storage: StorageSpec, credentials: Credentials) -> str | None:
        """See `Probes`."""
        try:
            store = open_store(storage, default_folder=Path("/nonexistent"), credentials=credentials)
            try:
                async with asyncio.timeout(_TIMEOUT_S * 2):
                    await store.check()
            finally:
                await store.close()
        except ProblemError as problem:
            return problem.detail
        except TimeoutError:
            return f"the object store did not answer within {_TIMEOUT_S * 2:.0f} s"
        except Exception as error:
            return _unusable("spec.storage.s3 names a store that cannot be asked", error)
        return None

    async def redis(self, address: str, password: str | None) -> str | None:
        """See `Probes`."""
        host, _, port = address.rpartition(":")
        connection = Redis(
            host=host,
            port=int(port),
            password=password,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
        try:
            async with connection:
                await connection.ping()
        except (RedisError, OSError) as error:
            return (
                f"the Redis at {address} does not answer ({error or type(error).__name__}): check that it runs, "
                "spec.ray.redis.address and the password"
            )
        return None

    async def answers(self, url: str) -> str | None:
        """See `Probes`."""
        try:
            return await answers(url, self._http)
        except Exception as error:
            return _unusable(f"{url} cannot be asked", error)


def _unusable(what: str, error: Exception) -> str:
    """What is told of an error that no library should raise: its kind alone, since its text may quote a secret."""
    return f"{what} ({type(error).__name__}): check host, port and form"


async def _unreachable(dsn: str) -> str | None:
    """Why the database cannot be reached and what helps, for whoever runs it; None when it can.

    Without this a condition would say what is for callers of the API, and quote a connection string that cannot be read.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await reach(dsn)
    except ProblemError as problem:
        return problem.detail
    except TimeoutError:
        return (
            f"the database does not answer within {_TIMEOUT_S:.0f} s: check that it runs, the host and port, and that "
            "policies and firewalls let the operator through"
        )
    return None


class Remembered:
    """Answers kept for a while, and asked for once at a time: many resources share a database or a Secret."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def get(
        self,
        key: Hashable,
        ask: Callable[[], Awaitable[T]],
        *,
        good_s: float,
        bad_s: float,
        bad: Callable[[T], bool],
    ) -> T:
        """The answer to `key`: a kept one, for `good_s` seconds or `bad_s` when it was `bad`, or a new one."""
        now = self._clock()
        until, future = self._kept.get(key, (0.0, None))
        if future is not None and (not future.done() or until > now):
            return await asyncio.shield(future)
        self._forget(now)
        asking: asyncio.Future[T] = asyncio.ensure_future(ask())
        self._kept[key] = (now, asking)
        try:
            answer = await asyncio.shield(asking)
        except BaseException:
            if asking.done():
                self._kept.pop(key, None)
            raise
        self._kept[key] = (self._clock() + (bad_s if bad(answer) else good_s), asking)
        return answer

    def forget(self, key: Hashable) -> None:
        """Have the next caller ask anew."""
        self._kept.pop(key, None)

    def _forget(self, now: float) -> None:
        old = [key for key, (until, future) in self._kept.items() if future.done() and until < now - 60]
        for key in old:
            del self._kept[key]
