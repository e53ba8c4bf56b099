"""Gathers concurrent requests into what keeps an encoder busy, without making a lone request wait.

When the encoder is idle a request goes through at once, with all threads. While it is busy, requests queue up, and what
has gathered goes next. A request whose deadline has passed is dropped before it costs anything.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visualindex.encoders.base import Encoded, Encoder, Parallelism, check_images
from visualindex.errors import ProblemError, ProblemType

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]
Patches = npt.NDArray[np.float16]

ObserveBatch = Callable[[int, float], None]
"""Told of every batch: how many images, and seconds it took."""

_GPU_BATCHES = 2
"""Batches in flight on a GPU: while one computes, the next is stacked and copied."""

_MEMORY = 0.9
"""Weight of the past in the running mean of an image's encoding time."""


@dataclass(eq=False)
class _Request:
    image: Image
    deadline: float
    patches: bool
    alone: bool
    queued_at: float
    answer: "asyncio.Future[tuple[Vector, Patches | None]]"


class DeadlineBatcher:
    """Feeds one encoder from one event loop. Deadlines are absolute `time.monotonic()` seconds.

    At most `workers` batches of at most `max_batch_size` images run at once. While one runs, another starts when it is
    full or its oldest request has waited `batch_deadline_ms`. At most `max_queued` requests wait.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_batch_size: int = 32,
        batch_deadline_ms: float = 5.0,
        max_queued: int = 256,
        workers: int = 1,
        observe: ObserveBatch | None = None,
    ) -> None:
        self._encoder = encoder
        self._max_batch_size = max_batch_size
        self._linger_s = batch_deadline_ms / 1000
        self._max_queued = max_queued
        self._workers = workers
        self._observe = observe
        self._queue: deque[_Request] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._image_s = 0.0
        self._closed = False
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="encode")

    @classmethod
    def for_encoder(
        cls,
        encoder: Encoder,
        *,
        max_batch_size: int,
        batch_deadline_ms: float,
        max_queued: int = 256,
        sharers: int = 1,
        observe: ObserveBatch | None = None,
    ) -> "DeadlineBatcher":
        """A batcher that feeds `encoder` as it prefers: one-image calls on each thread, or batches.

        `sharers` processes that encode on the same cores each take their part of the threads under load; a lone image
        still gets all of them.
        """
        if encoder.prefers == "calls":
            workers, size, linger_ms = max(1, encoder.threads // sharers), 1, 0.0
        else:
            workers = _GPU_BATCHES if encoder.device == "cuda" else 1
            size, linger_ms = max_batch_size, batch_deadline_ms
        return cls(
            encoder,
            max_batch_size=size,
            batch_deadline_ms=linger_ms,
            max_queued=max_queued,
            workers=workers,
            observe=observe,
        )

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Batches that are being encoded."""
        return len(self._running)

    async def submit(self, image: Image, deadline: float, *, alone: bool = True) -> Vector:
        """The vector float32[d] of uint8[height, width, 3].

        `alone` is False when the caller knows of others to come: then it does not get all threads on an idle encoder.
        Raises ProblemError DEADLINE_EXCEEDED, OVERLOADED when the queue is full, UNAVAILABLE after `aclose`; ValueError
        for an image that is not of the encoder's size.
        """
        vector, _ = await self._submit(image, deadline, patches=False, alone=alone)
        return vector

    async def submit_with_patches(
        self, image: Image, deadline: float, *, alone: bool = True
    ) -> tuple[Vector, Patches]:
        """As `submit`, with the patch features float16[rows, columns, channels]."""
        vector, patches = await self._submit(image, deadline, patches=True, alone=alone)
        if patches is None:
            raise ProblemError(ProblemType.INTERNAL, "The encoder gave no patch features.")
        return vector, patches

    async def aclose(self) -> None:
        """Refuse what waits and what comes, and return when what runs has ended. The encoder stays open."""
        self._closed = True
        self._cancel_timer()
        while self._queue:
            _fail(self._queue.popleft(), _unavailable())
        await asyncio.gather(*self._running)
        self._threads.shutdown(wait=False)

    async def _submit(
        self, image: Image, deadline: float, *, patches: bool, alone: bool
    ) -> tuple[Vector, Patches | None]:
        check_images(image[None], self._encoder.input)
        self._admit(deadline)
        loop = asyncio.get_running_loop()
        request = _Request(image, deadline, patches, alone, time.monotonic(), loop.create_future())
        self._queue.append(request)
        self._dispatch()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await request.answer
        except TimeoutError:
            raise _too_late() from None

    def _admit(self, deadline: float) -> None:
        if self._closed:
            raise _unavailable()
        if deadline <= time.monotonic():
            raise _too_late()
        if len(self._queue) >= self._max_queued:
            self._drop_dead()
        if len(self._queue) >= self._max_queued:
            raise self._overloaded()

    def _dispatch(self) -> None:
        """Start batches while there are free workers and a reason to start."""
        self._cancel_timer()
        self._drop_dead()
        while self._queue and len(self._running) < self._workers and not self._closed:
            wait_s = self._worth_waiting_s()
            if wait_s > 0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._dispatch)
                return
            self._start([self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch_size))])

    def _worth_waiting_s(self) -> float:
        """How long the next batch should still fill: not at all on an idle encoder or when it is full."""
        if not self._running or len(self._queue) >= self._max_batch_size:
            return 0.0
        return self._queue[0].queued_at + self._linger_s - time.monotonic()

    def _start(self, batch: list[_Request]) -> None:
        alone = not self._running and not self._queue and batch[0].alone
        task = asyncio.get_running_loop().create_task(self._run(batch, "latency" if alone else "throughput"))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._dispatch()

    async def _run(self, batch: list[_Request], parallelism: Parallelism) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            encoded = await loop.run_in_executor(self._threads, _encode, self._encoder, batch, parallelism)
        except Exception as e:  # the callers must hear of whatever a runtime raises
            for request in batch:
                _fail(request, _encoder_failed(e))
            return
        _deliver(batch, encoded)
        self._measure(len(batch), time.monotonic() - started)

    def _measure(self, images: int, seconds: float) -> None:
        latest = seconds / images
        self._image_s = _MEMORY * self._image_s + (1 - _MEMORY) * latest if self._image_s else latest
        if self._observe is not None:
            self._observe(images, seconds)

    def _drop_dead(self) -> None:
        """Forget requests that were cancelled and fail those that are too late, wherever they stand."""
        now = time.monotonic()
        if all(request.deadline > now and not request.answer.done() for request in self._queue):
            return
        alive: deque[_Request] = deque()
        for request in self._queue:
            if request.deadline <= now:
                _fail(request, _too_late())
            elif not request.answer.done():
                alive.append(request)
        self._queue = alive

    def _overloaded(self) -> ProblemError:
        retry_s = max(0.05, len(self._queue) * self._image_s / self._workers)
        detail = f"{len(self._queue)} images wait for the encoder already: try again in {retry_s:.2f} s."
        return ProblemError(ProblemType.OVERLOADED, detail, retry_after_s=retry_s)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _encode(encoder: Encoder, batch: Sequence[_Request], parallelism: Parallelism) -> Encoded:
    images = np.stack([request.image for request in batch])
    wanted = any(request.patches for request in batch)
    return encoder.encode(images, patches=wanted, parallelism=parallelism)


def _deliver(batch: Sequence[_Request], encoded: Encoded) -> None:
    for row, request in enumerate(batch):
        if not request.answer.done():
            patches = encoded.patches[row] if request.patches and encoded.patches is not None else None
            request.answer.set_result((encoded.vectors[row], patches))


def _fail(request: _Request, problem: ProblemError) -> None:
    if not request.answer.done():
        request.answer.set_exception(problem)


def _too_late() -> ProblemError:
    return ProblemError(ProblemType.DEADLINE_EXCEEDED, "The deadline passed before the image was encoded.")


def _unavailable() -> ProblemError:
    return ProblemError(ProblemType.UNAVAILABLE, "The encoder is shutting down.", retry_after_s=1.0)


def _encoder_failed(cause: Exception) -> ProblemError:
    problem = ProblemError(ProblemType.INTERNAL, f"The encoder failed: {cause}")
    problem.__cause__ = cause
    return problem
