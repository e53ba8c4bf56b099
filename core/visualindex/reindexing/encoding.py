"""From pixels to vectors and patches, in batches that the ledger fixes: the same batches give the same bits."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visualindex.encoders import Encoder, Parallelism
from visualindex.encoders.placement import placement_of
from visualindex.rerank.patches import PatchProjection
from visualindex.spec import EncoderSpec

_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
_ENOUGH = 0.97
"""Of the best rate: the smallest batch that reaches it is taken, for it needs the least memory."""
_MEASURE_S = 1.0
_GPU_CALLS = 2
"""Batches in flight on a GPU: while one computes, the next is copied."""
_CPU_FLAGS = ("avx512f", "avx2", "asimd")

Clock = Callable[[], float]


@dataclass(frozen=True)
class Made:
    """What was made of n images: `vectors` float16[n, d], and `patches` as `Packed.row_bytes`, where they are kept."""

    vectors: NDArray[np.float16]
    patches: Sequence[bytes] | None
    cpu_s: float


class BatchEncoder:
    """An encoder fed with batches of one size."""

    def __init__(
        self,
        encoder: Encoder,
        packing: PatchProjection | None,
        batch: int,
        *,
        apart: Clock = lambda: 0.0,
    ) -> None:
        """`apart` tells CPU seconds of this process that others account for: those of the thread that fetches."""
        self.encoder = encoder
        self._apart = apart
        self._packing = packing
        self.batch = batch
        calls = encoder.threads if encoder.prefers == "calls" else 1
        self._threads = ThreadPoolExecutor(_GPU_CALLS if encoder.device == "cuda" else calls, "encode")

    def encode(self, pixels: NDArray[np.uint8]) -> Made:
        """Vectors and patches of uint8[n, height, width, 3]. Blocks."""
        parts = [pixels[start : start + self.batch] for start in range(0, len(pixels), self.batch)]
        begun = self._process_s()
        made = list(self._threads.map(self._one, parts))
        # Calls side by side compute in their own threads; batches are computed by threads of the runtime.
        calls = self.encoder.prefers == "calls"
        cpu_s = sum(part.cpu_s for part in made) if calls else self._process_s() - begun
        vectors = [part.vectors for part in made] or [np.zeros((0, self.encoder.dimension), np.float16)]
        patches = None
        if self._packing is not None:
            patches = [row for part in made for row in part.patches or ()]
        return Made(np.concatenate(vectors), patches, cpu_s)

    def shut(self) -> None:
        """End the threads; the encoder stays open."""
        self._threads.shutdown()

    def _process_s(self) -> float:
        return time.process_time() - self._apart()

    def _one(self, pixels: NDArray[np.uint8]) -> Made:
        begun = time.thread_time()
        wanted = self._packing is not None
        parallelism: Parallelism = "throughput" if self.encoder.prefers == "calls" else "latency"
        found = self.encoder.encode(pixels, patches=wanted, parallelism=parallelism)
        patches = None
        if self._packing is not None:
            assert found.patches is not None  # noqa: S101 - they were asked for
            packed = self._packing.pack(found.patches)
            patches = [packed.row_bytes(row) for row in range(len(pixels))]
        return Made(found.vectors.astype("<f2"), patches, time.thread_time() - begun)


def measured_batch(
    encoder: Encoder, packing: PatchProjection | None, most: int, clock: Clock = time.perf_counter
) -> int:
    """The smallest batch that comes within 3 % of the best rate, of at most `most` images; 1 where the encoder takes single
    images side by side."""
    if encoder.prefers == "calls":
        return 1
    rates: dict[int, float] = {}
    for size in [size for size in _SIZES if size < most] + [most]:
        rate = _rate(BatchEncoder(encoder, packing, size), clock)
        if rates and rate < max(rates.values()) * _ENOUGH:
            break  # larger ones only get slower, or do not fit
        rates[size] = rate
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= best * _ENOUGH)


def _rate(front: BatchEncoder, clock: Clock) -> float:
    shape = front.encoder.input
    pixels = np.random.default_rng(0).integers(0, 256, (front.batch, shape.height, shape.width, 3), np.uint8)
    front.encode(pixels)
    begun, images = clock(), 0
    while clock() - begun < _MEASURE_S:
        front.encode(pixels)
        images += front.batch
    took = clock() - begun
    front.shut()
    return images / took


def hardware_of(spec: EncoderSpec, cpu_facts: Path = Path("/proc/cpuinfo")) -> str:
    """What decides the bits of a vector beside the model: runtime, precision, and the kind of processor."""
    placement = placement_of(spec)
    kind = _gpu() if placement.device == "cuda" else _cpu(cpu_facts)
    return f"{placement.runtime} {placement.precision} {kind}"


def _gpu() -> str:
    import torch

    return str(torch.cuda.get_device_name())


def _cpu(facts: Path) -> str:
    import platform

    flags = _flags(facts.read_text().splitlines()) if facts.exists() else frozenset()
    return "-".join([platform.machine(), *(flag for flag in _CPU_FLAGS if flag in flags)][:2])


def _flags(lines: Iterable[str]) -> frozenset[str]:
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(values.split())
    return frozenset()
