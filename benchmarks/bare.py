"""The work of the service without the service: decode, encode and exact search in one process, on two threads.

What the service's figures are divided by. No HTTP, no Ray, no other process; the same decoder, encoder, runtime and
vectors. Two arrangements compete for the best throughput: one request at a time on all threads, and one request per
thread on a thread each.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.photographs import distinct
from visualindex.encoders import Encoder, load_encoder
from visualindex.encoders.base import Parallelism
from visualindex.imaging.decoding import decode
from visualindex.imaging.jobs import Bounds, DecodeJob
from visualindex.spec import Spec

TOP = 10


@dataclass(frozen=True)
class Rate:
    """How fast an arrangement of threads was."""

    arrangement: str
    p50_ms: float
    p99_ms: float
    per_second: float
    cpu_ms: float


class Bare:
    """Decoder, encoder and `vectors` (float32[n, d], L2-normalised) in this process."""

    def __init__(self, spec: Spec, vectors: npt.NDArray[np.float32], cache_dir: Path) -> None:
        cv2.setNumThreads(1)
        self.threads = os.cpu_count() or 1
        self.encoder: Encoder = load_encoder(spec.encoder, cache_dir=cache_dir, threads=self.threads)
        self._bounds = Bounds.of(spec.limits)
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def search(self, jpeg: bytes, parallelism: Parallelism) -> None:
        """Everything a search computes: decode, encode, the exact ten nearest."""
        self._index.search(self._vector(jpeg, parallelism), TOP)

    def embed(self, jpeg: bytes, parallelism: Parallelism) -> None:
        """Everything a write computes: decode and encode."""
        self._vector(jpeg, parallelism)

    def _vector(self, jpeg: bytes, parallelism: Parallelism) -> npt.NDArray[np.float32]:
        pixels = decode(DecodeJob(jpeg, self.encoder.input), self._bounds).pixels
        assert pixels is not None
        return self.encoder.encode(pixels[None], parallelism=parallelism).vectors

    def rates(self, work: Callable[[bytes, Parallelism], None], jpeg: bytes, seconds: float) -> list[Rate]:
        """Both arrangements, one after the other, for `seconds` each."""
        alone = _rate(f"1 x {self.threads} threads", lambda n: work(distinct(jpeg, n), "latency"), 1, seconds)
        side = _rate(
            f"{self.threads} x 1 thread",
            lambda n: work(distinct(jpeg, n), "throughput"),
            self.threads,
            seconds,
        )
        return [alone, side]


def _rate(name: str, one: Callable[[int], None], workers: int, seconds: float) -> Rate:
    taken: list[float] = []
    lock = threading.Lock()
    cpu, started = time.process_time(), time.perf_counter()

    def loop(worker: int) -> None:
        number = worker * 1_000_000
        while (begun := time.perf_counter()) - started < seconds:
            number += 1
            one(number)
            with lock:
                taken.append((time.perf_counter() - begun) * 1000)

    # OpenMP counts threads per calling thread, so each has to be told.
    with ThreadPoolExecutor(workers, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        list(pool.map(loop, range(workers)))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    p50, p99 = np.percentile(taken, (50, 99))
    return Rate(name, float(p50), float(p99), len(taken) / elapsed, cpu / len(taken) * 1000)
