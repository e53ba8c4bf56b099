"""Live recall: what share of the true hits the searches of users find, measured on a sample of them.

The recall of a build is that of rows held out of it; users may ask for other things, under filters, among fresh rows.
A sampled search is repeated exactly over the very rows it saw, in a thread of the lowest priority. One sample may wait
while one is looked at and the others are dropped, so that nothing is kept from the searches.
"""

import contextlib
import logging
import queue
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import Ask, Looked, Snapshot
from visualindex_serving.lowest_priority import yield_to_others

logger = logging.getLogger(__name__)

K = 10
"""Hits that count, the best ones: as many as when the recall of a build is measured."""
WINDOW = 1000
"""Latest samples that are told."""


@dataclass(frozen=True)
class Sample:
    """One search that was answered: `vector` is float32 [1, d], `scores` float32 [n] those of its hits, best first."""

    generation: str
    snapshot: Snapshot
    vector: NDArray[np.float32]
    ask: Ask
    scores: NDArray[np.float32]


class LiveRecall:
    """The latest samples of one replica. Searches offer themselves from any thread."""

    def __init__(
        self,
        share: float,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Each search is sampled with the probability `share`: when `chance`, from 0 to 1, comes out below it."""
        self._share = share
        self._chance = chance
        self._pending: queue.Queue[Sample | None] = queue.Queue(1)
        self._latest: deque[tuple[str, float]] = deque(maxlen=WINDOW)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def offer(
        self, generation: str, snapshot: Snapshot, vectors: NDArray[np.float32], ask: Ask, looked: Looked
    ) -> None:
        """Take the search as a sample, by chance: `vectors`, float32 [q, d], were answered from the snapshot by `looked`.

        Of several queries one is taken. Returns at once.
        """
        if self._chance() >= self._share or not len(vectors) or ask.sort is not None or ask.group is not None:
            return
        one = int(self._chance() * len(vectors))
        scores = looked.hits.scores[one, : looked.hits.counts[one]]
        sample = Sample(generation, snapshot, vectors[one : one + 1], replace(ask, facets=()), scores)
        with contextlib.suppress(queue.Full):
            self._pending.put_nowait(sample)
            self._start()

    def figures(self, generation: str) -> tuple[float | None, int]:
        """Mean recall of the latest samples of a generation, None without any, and how many there are."""
        with self._lock:
            recalls = [recall for name, recall in self._latest if name == generation]
        return (sum(recalls) / len(recalls) if recalls else None), len(recalls)

    def close(self) -> None:
        """Take no more samples; one that is looked at ends by itself."""
        self._closed.set()
        with contextlib.suppress(queue.Full):
            self._pending.put_nowait(None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="live-recall", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        yield_to_others()
        while not self._closed.is_set():
            self._repeat_next()

    def _repeat_next(self) -> None:
        """One sample. It is let go of before the next is waited for: it may hold rows that nobody searches any more."""
        sample = self._pending.get()
        if sample is None:
            return
        try:
            recall = measured(sample)
        except Exception:
            logger.exception("a sampled search could not be repeated exactly")
            return
        if recall is not None:
            with self._lock:
                self._latest.append((sample.generation, recall))


def measured(sample: Sample) -> float | None:
    """Share of the true first hits that the search found; None where nothing is to be found.

    By score and not by row: of rows that tie with the last hit any is as good.
    """
    k = min(K, sample.ask.k)
    truth = sample.snapshot.look(sample.vector, replace(sample.ask, k=k), exact=True).hits
    count = int(truth.counts[0])
    if not count:
        return None
    return float(np.count_nonzero(sample.scores[:k] >= truth.scores[0, count - 1])) / count
