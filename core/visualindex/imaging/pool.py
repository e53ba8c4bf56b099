"""The pool of decoding processes: bytes that kill, hang or swell a decoder cost one job and never the server."""

import asyncio
import itertools
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging.headers import invalid
from visualindex.imaging.jobs import Bounds, Decoded, DecodeJob
from visualindex.imaging.process import WorkerDiedError, WorkerProcess
from visualindex.imaging.wire import BrokenWorkerError

if TYPE_CHECKING:
    from visualindex.spec import LimitsSpec

log = logging.getLogger(__name__)

SPARES = 1
"""Workers started beyond those in use, so that a killed one is replaced at once."""

QUEUE_PER_WORKER = 16
JOBS_PER_WORKER = 5_000
RSS_PER_WORKER = 512 * 1024**2


@dataclass(order=True)
class _Place:
    """Room for one worker; without a worker, whoever takes the place starts one."""

    rank: tuple[int, int]
    worker: WorkerProcess | None = field(compare=False)


class _CrashedError(Exception):
    """A worker died under a job; says of what."""


class DecodePool:
    """Decodes untrusted images in `workers` processes. Belongs to one event loop and blocks it never.

    `max_queue` jobs may wait (default: 16 per worker); a worker is replaced after `jobs_per_worker` jobs or when
    `rss_per_worker` bytes stay resident after a job.
    """

    def __init__(
        self,
        workers: int,
        limits: "LimitsSpec",
        *,
        max_queue: int | None = None,
        jobs_per_worker: int = JOBS_PER_WORKER,
        rss_per_worker: int = RSS_PER_WORKER,
    ) -> None:
        if workers < 1:
            raise ValueError(f"a decode pool of {workers} workers cannot decode: give it at least 1")
        self._workers = workers
        self._bounds = Bounds.of(limits)
        self._timeout_s = limits.decode_timeout_ms / 1000
        self._max_queue = workers * QUEUE_PER_WORKER if max_queue is None else max_queue
        self._jobs_per_worker = jobs_per_worker
        self._rss_per_worker = rss_per_worker
        self._slots = asyncio.Semaphore(workers)
        self._places: asyncio.PriorityQueue[_Place] = asyncio.PriorityQueue()
        self._all: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._order = itertools.count()
        self._waiting = 0
        self._open = False

    async def start(self) -> None:
        """Start the workers and a spare. Raises ProblemError UNAVAILABLE when one does not start."""
        self._open = True
        starting = (self._start_worker() for _ in range(self._workers + SPARES))
        started = await asyncio.gather(*starting, return_exceptions=True)
        for outcome in started:
            if isinstance(outcome, BaseException):
                await self.close()
                raise outcome
            self._put(outcome)

    async def close(self) -> None:
        """Kill all workers; jobs still running or waiting are answered UNAVAILABLE."""
        self._open = False
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(self._end(worker) for worker in list(self._all)))

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, the spare included."""
        return [worker.process.pid for worker in self._all]

    async def decode(self, job: DecodeJob, *, deadline: float | None = None) -> Decoded:
        """Decode one image. `deadline` is in seconds of `time.time()`.

        Raises ProblemError: UNSUPPORTED_IMAGE, INVALID_IMAGE (also when the image crashed its decoder),
        IMAGE_TOO_LARGE, DECODE_TIMEOUT (the image took longer than `limits.decodeTimeoutMs`), DEADLINE_EXCEEDED (the
        caller's deadline came first), OVERLOADED (too many jobs wait), UNAVAILABLE (closed, or no worker starts).
        """
        self._bounds.check_bytes(len(job.data))
        self._admit()
        left = None if deadline is None else deadline - time.time()
        if left is not None and left <= 0:
            raise _late()
        try:
            async with asyncio.timeout(left):
                return await self._queued(job)
        except TimeoutError as error:
            raise _late() from error

    def _admit(self) -> None:
        if not self._open:
            raise _closed()
        if self._slots.locked() and self._waiting >= self._max_queue:
            detail = f"{self._waiting} images wait to be decoded, which is the most this gateway queues: try again soon."
            raise ProblemError(ProblemType.OVERLOADED, detail, retry_after_s=1.0)

    async def _queued(self, job: DecodeJob) -> Decoded:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        # A caller that gives up leaves its job running: it ends soon, and a worker cannot be interrupted, only killed.
        task = self._spawn(self._occupy_slot(job))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise _closed() from None
            raise

    async def _occupy_slot(self, job: DecodeJob) -> Decoded:
        try:
            if not self._open:
                raise _closed()
            return await self._run_again(job)
        finally:
            self._slots.release()

    async def _run_again(self, job: DecodeJob) -> Decoded:
        """Run the job; once more when its worker was killed, which a person or the kernel does, not an image."""
        for last in (False, True):
            try:
                return await self._run(await self._take_worker(), job)
            except _CrashedError as crash:
                log.warning("an image of %d bytes crashed its decoder (%s)", len(job.data), crash)
                if last or str(crash) != "SIGKILL":
                    raise invalid(f"it crashed the decoder ({crash})") from crash
        raise AssertionError("unreachable")

    async def _run(self, worker: WorkerProcess, job: DecodeJob) -> Decoded:
        healthy = False
        try:
            async with asyncio.timeout(self._timeout_s):
                decoded = await worker.run(job)
            healthy = True
            return decoded
        except ProblemError:
            healthy = True
            raise
        except TimeoutError as error:
            allowed = f"{self._timeout_s * 1000:.0f} ms (limits.decodeTimeoutMs)"
            detail = f"Decoding took longer than {allowed}: send a smaller image."
            raise ProblemError(ProblemType.DECODE_TIMEOUT, detail) from error
        except (WorkerDiedError, BrokenWorkerError) as error:
            raise _CrashedError(await worker.death()) from error
        finally:
            self._give_back(worker, healthy=healthy)

    def _give_back(self, worker: WorkerProcess, *, healthy: bool) -> None:
        worn = worker.jobs >= self._jobs_per_worker or worker.rss_bytes > self._rss_per_worker
        if healthy and not worn and self._open:
            self._put(worker)
        elif self._open:
            self._spawn(self._replace(worker))

    async def _take_worker(self) -> WorkerProcess:
        """A live worker: a warm one, or one started now where the last attempt to start one failed."""
        while True:
            place = await self._places.get()
            if place.worker is None:
                return await self._fill(place)
            if place.worker.alive:
                return place.worker
            self._spawn(self._replace(place.worker))

    async def _fill(self, place: _Place) -> WorkerProcess:
        try:
            return await self._start_worker()
        except BaseException:
            self._places.put_nowait(place)
            raise

    async def _replace(self, worker: WorkerProcess) -> None:
        try:
            await self._end(worker)
            self._put(await self._start_worker())
        except ProblemError as problem:
            log.error("no new image decoder: %s", problem.detail)
            self._put(None)

    def _put(self, worker: WorkerProcess | None) -> None:
        # Last used, first taken: its caches are warm. Places without a worker come last.
        rank = (1, 0) if worker is None else (0, -next(self._order))
        self._places.put_nowait(_Place(rank, worker))

    async def _start_worker(self) -> WorkerProcess:
        worker = await WorkerProcess.start(self._bounds, self._timeout_s)
        self._all.add(worker)
        return worker

    async def _end(self, worker: WorkerProcess) -> None:
        await worker.kill()
        self._all.discard(worker)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # The caller may have left: an outcome nobody waits for is no error.
            task.exception()


def _late() -> ProblemError:
    detail = "The deadline passed before the image was decoded: try again, or allow more time."
    return ProblemError(ProblemType.DEADLINE_EXCEEDED, detail)


def _closed() -> ProblemError:
    return ProblemError(ProblemType.UNAVAILABLE, "The image decoders are stopping: try another replica.")
