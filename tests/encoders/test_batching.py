"""The batcher keeps its promises about deadlines, order and overload, on the real encoder."""

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import Encoded, Encoder, Images, Parallelism, Vectors
from visualindex.encoders.batching import DeadlineBatcher
from visualindex.errors import ProblemError, ProblemType

Draw = Callable[..., npt.NDArray[np.uint8]]

SOON = 60.0


class Gate:
    """Lets the real encoder begin only when told to, and notes what it was asked: size, variant, patches."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._permits = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.calls: list[tuple[int, Parallelism, bool]] = []
        self.fingerprint, self.dimension, self.input = encoder.fingerprint, encoder.dimension, encoder.input
        self.device, self.prefers, self.threads = encoder.device, encoder.prefers, encoder.threads

    def allow(self, batches: int) -> None:
        self._permits.release(batches)

    async def begun(self) -> None:
        """Return when one more batch has reached the encoder."""
        await asyncio.to_thread(self.entered.acquire)

    def encode(
        self, images: Images, *, patches: bool = False, parallelism: Parallelism = "latency"
    ) -> Encoded:
        self.calls.append((len(images), parallelism, patches))
        self.entered.release()
        self._permits.acquire()
        if not images.any():
            raise RuntimeError("out of memory")
        return self._encoder.encode(images, patches=patches, parallelism=parallelism)

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        return self._encoder.encode_text(texts)

    def close(self) -> None:
        self._encoder.close()


@pytest.fixture
def gate(lite0: Encoder) -> Iterator[Gate]:
    gate = Gate(lite0)
    yield gate
    gate.allow(1000)


Make = Callable[..., DeadlineBatcher]


@pytest.fixture
async def make(gate: Gate) -> AsyncIterator[Make]:
    made: list[DeadlineBatcher] = []

    def build(**options: object) -> DeadlineBatcher:
        made.append(DeadlineBatcher(gate, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    gate.allow(1000)
    for batcher in made:
        await batcher.aclose()


def _submit(batcher: DeadlineBatcher, image: Images, seconds: float = SOON) -> "asyncio.Task[Vectors]":
    return asyncio.ensure_future(batcher.submit(image, time.monotonic() + seconds))


def _note(ended: list[int], number: int, _: object) -> None:
    ended.append(number)


async def _queued(batcher: DeadlineBatcher, count: int) -> None:
    while batcher.queued != count:  # noqa: ASYNC110 - a batcher has no event for its length
        await asyncio.sleep(0)


async def test_a_lone_request_goes_at_once_with_all_threads(make: Make, gate: Gate, draw: Draw) -> None:
    """An idle encoder does not wait for company, however long batches may fill."""
    batcher = make(batch_deadline_ms=1_000_000.0)
    task = _submit(batcher, draw(1)[0])
    await gate.begun()
    gate.allow(1)
    assert np.isclose(np.linalg.norm(await task), 1)
    assert gate.calls == [(1, "latency", False)]


async def test_what_gathers_goes_together_and_to_its_owner(
    make: Make, gate: Gate, lite0: Encoder, draw: Draw
) -> None:
    """Requests that come while the encoder works make one batch, and each gets its own vector."""
    batcher, images = make(max_batch_size=8), draw(6)
    tasks = [_submit(batcher, images[0])]
    await gate.begun()
    tasks += [_submit(batcher, image) for image in images[1:]]
    await _queued(batcher, 5)
    gate.allow(2)
    vectors = np.stack(await asyncio.gather(*tasks))
    assert [size for size, _, _ in gate.calls] == [1, 5]
    assert np.sum(vectors * lite0.encode(images).vectors, axis=1).min() > 0.99999


async def test_batches_are_bounded_and_in_order(make: Make, gate: Gate, draw: Draw) -> None:
    """Seven waiting requests go as batches of at most three, first come first served."""
    batcher, images = make(max_batch_size=3), draw(8)
    ended: list[int] = []
    tasks = []
    for number, image in enumerate(images):
        tasks.append(_submit(batcher, image))
        tasks[-1].add_done_callback(functools.partial(_note, ended, number))
    await _queued(batcher, 7)
    gate.allow(4)
    await asyncio.gather(*tasks)
    assert [size for size, _, _ in gate.calls] == [1, 3, 3, 1]
    assert ended == list(range(8))


async def test_workers_run_side_by_side(make: Make, gate: Gate, draw: Draw) -> None:
    """Two workers hold two calls at once: the first with all threads, the second with one."""
    batcher, images = make(workers=2, max_batch_size=1, batch_deadline_ms=0.0), draw(3)
    tasks = [_submit(batcher, images[0])]
    await gate.begun()
    tasks += [_submit(batcher, image) for image in images[1:]]
    await gate.begun()
    assert (batcher.running, batcher.queued) == (2, 1)
    gate.allow(3)
    await asyncio.gather(*tasks)
    assert [parallelism for _, parallelism, _ in gate.calls] == ["latency", "throughput", "throughput"]


async def test_a_second_batch_waits_until_it_is_full(make: Make, gate: Gate, draw: Draw) -> None:
    """While one batch runs, a free worker waits for the next to fill, and starts it when it is full."""
    batcher, images = make(workers=2, max_batch_size=2, batch_deadline_ms=1_000_000.0), draw(3)
    tasks = [_submit(batcher, images[0])]
    await gate.begun()
    tasks.append(_submit(batcher, images[1]))
    await _queued(batcher, 1)
    assert batcher.running == 1
    tasks.append(_submit(batcher, images[2]))
    await gate.begun()
    assert (batcher.running, batcher.queued) == (2, 0)
    gate.allow(2)
    await asyncio.gather(*tasks)


async def test_a_second_batch_waits_no_longer_than_its_deadline(make: Make, gate: Gate, draw: Draw) -> None:
    """A batch that does not fill starts after `batch_deadline_ms`, although the first still runs."""
    batcher, images = make(workers=2, max_batch_size=8, batch_deadline_ms=20.0), draw(2)
    tasks = [_submit(batcher, images[0])]
    await gate.begun()
    tasks.append(_submit(batcher, images[1]))
    await gate.begun()
    assert batcher.running == 2
    gate.allow(2)
    await asyncio.gather(*tasks)


async def test_too_late_is_dropped_before_it_costs(make: Make, gate: Gate, draw: Draw) -> None:
    """A request whose deadline passes in the queue fails then, and is never encoded."""
    batcher, images = make(), draw(3)
    first = _submit(batcher, images[0])
    await gate.begun()
    late, patient = _submit(batcher, images[1], 0.02), _submit(batcher, images[2])
    with pytest.raises(ProblemError) as caught:
        await late
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED
    gate.allow(2)
    await asyncio.gather(first, patient)
    assert [size for size, _, _ in gate.calls] == [1, 1]


async def test_a_deadline_ends_the_wait_for_a_slow_encoder(make: Make, gate: Gate, draw: Draw) -> None:
    """The caller hears at its deadline also when the encoder is at its picture already."""
    batcher = make()
    with pytest.raises(ProblemError) as caught:
        await _submit(batcher, draw(1)[0], 0.02)
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED
    assert batcher.running == 1


async def test_a_deadline_in_the_past_is_refused(make: Make, gate: Gate, draw: Draw) -> None:
    """Nothing is queued for a caller who has gone."""
    with pytest.raises(ProblemError) as caught:
        await _submit(make(), draw(1)[0], -1.0)
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED
    assert gate.calls == []


async def test_a_full_queue_refuses_and_says_when_to_return(make: Make, gate: Gate, draw: Draw) -> None:
    """Beyond `max_queued` the answer is immediate, and the queue drains as before."""
    batcher, image = make(max_queued=2), draw(1)[0]
    tasks = [_submit(batcher, image)]
    await gate.begun()
    tasks += [_submit(batcher, image) for _ in range(2)]
    await _queued(batcher, 2)
    with pytest.raises(ProblemError) as caught:
        await _submit(batcher, image)
    assert caught.value.type is ProblemType.OVERLOADED
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    gate.allow(2)
    assert len(await asyncio.gather(*tasks)) == 3


async def test_cancelled_requests_leave_room_and_batches_alone(make: Make, gate: Gate, draw: Draw) -> None:
    """Callers that hang up, waiting or being encoded, neither fill the queue nor harm their neighbours."""
    batcher, images = make(max_queued=2), draw(4)
    encoding = _submit(batcher, images[0])
    await gate.begun()
    gone, stays = _submit(batcher, images[1]), _submit(batcher, images[2])
    await _queued(batcher, 2)
    encoding.cancel()
    gone.cancel()
    await asyncio.wait([encoding, gone])
    replacement = _submit(batcher, images[3])
    gate.allow(2)
    vectors = await asyncio.gather(stays, replacement)
    assert [size for size, _, _ in gate.calls] == [1, 2]
    assert not np.allclose(vectors[0], vectors[1])


async def test_a_failing_batch_fails_alone(make: Make, gate: Gate, draw: Draw) -> None:
    """What a runtime raises reaches the callers of that batch as a problem; the next batch is served."""
    batcher, image = make(), draw(1)[0]
    bad = _submit(batcher, np.zeros_like(image))
    await gate.begun()
    good = _submit(batcher, image)
    gate.allow(2)
    with pytest.raises(ProblemError, match="out of memory") as caught:
        await bad
    assert caught.value.type is ProblemType.INTERNAL
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(await good) == 256


async def test_a_picture_of_another_size_is_refused_alone(make: Make, gate: Gate) -> None:
    """It is refused at the door, before it could spoil a batch."""
    with pytest.raises(ValueError, match="takes uint8"):
        await _submit(make(), np.zeros((10, 10, 3), np.uint8))
    assert gate.calls == []


async def test_patches_come_to_those_who_ask(make: Make, gate: Gate, lite0: Encoder, draw: Draw) -> None:
    """A batch with and without patches is one batch; each caller gets its own."""
    batcher, images = make(), draw(3)
    first = _submit(batcher, images[0])
    await gate.begun()
    wanted = asyncio.ensure_future(batcher.submit_with_patches(images[1], time.monotonic() + SOON))
    plain = _submit(batcher, images[2])
    await _queued(batcher, 2)
    gate.allow(2)
    _, (vector, patches), _ = await asyncio.gather(first, wanted, plain)
    assert gate.calls[1] == (2, "latency", True)
    expected = lite0.encode(images[1:2], patches=True)
    assert expected.patches is not None
    assert vector @ expected.vectors[0] > 0.99999
    assert np.allclose(patches, expected.patches[0], atol=0.02)


async def test_closing_refuses_what_waits_and_finishes_what_runs(make: Make, gate: Gate, draw: Draw) -> None:
    """A shutdown answers everybody."""
    batcher, images = make(), draw(2)
    running = _submit(batcher, images[0])
    await gate.begun()
    waiting = _submit(batcher, images[1])
    await _queued(batcher, 1)
    gate.allow(1)
    await batcher.aclose()
    assert len(await running) == 256
    for refused in (waiting, _submit(batcher, images[1])):
        with pytest.raises(ProblemError) as caught:
            await refused
        assert caught.value.type is ProblemType.UNAVAILABLE


async def test_tells_of_every_batch(make: Make, gate: Gate, draw: Draw) -> None:
    """Sizes and seconds for the metrics."""
    seen: list[tuple[int, float]] = []
    batcher = make(observe=lambda size, seconds: seen.append((size, seconds)))
    gate.allow(1)
    await _submit(batcher, draw(1)[0])
    await asyncio.sleep(0)
    assert [size for size, _ in seen] == [1]
    assert seen[0][1] > 0


async def test_feeds_an_encoder_as_it_prefers(gate: Gate, draw: Draw) -> None:
    """On CPU runtimes that means one-image calls on every thread, whatever batches the spec allows."""
    batcher = DeadlineBatcher.for_encoder(gate, max_batch_size=32, batch_deadline_ms=5.0)
    tasks = [_submit(batcher, image) for image in draw(4)]
    await gate.begun()
    await gate.begun()
    assert (batcher.running, batcher.queued) == (2, 2)
    gate.allow(4)
    await asyncio.gather(*tasks)
    assert [size for size, _, _ in gate.calls] == [1, 1, 1, 1]
    await batcher.aclose()


async def test_an_image_with_others_to_come_gets_one_thread_of_an_idle_encoder(
    make: Make, gate: Gate, draw: Draw
) -> None:
    batcher, image = make(), draw(1)[0]
    gate.allow(2)
    await batcher.submit(image, time.monotonic() + SOON, alone=False)
    await batcher.submit(image, time.monotonic() + SOON)
    assert [parallelism for _, parallelism, _ in gate.calls] == ["throughput", "latency"]
