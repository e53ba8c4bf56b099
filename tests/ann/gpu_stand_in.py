"""A stand-in for Faiss's GPU form of inverted lists, which needs a GPU: the same lists on the CPU, as a GPU has them.

What of a GPU matters here is kept: it takes no mask, returns at most 2,048 rows from at most 2,048 lists, and serves one
thread at a time.
"""

import threading
import weakref
from typing import Any

import faiss
import numpy as np
import pytest

MOST = 2048


class StandIn:
    """What `faiss.index_cpu_to_gpu` would return."""

    def __init__(self, index: Any, gpu: int) -> None:
        self.gpu = gpu
        self.searches = 0
        self.full = False
        """Whether the GPU has no memory left for searches."""
        self._index = index
        self._busy = threading.Lock()

    def search(self, queries: np.ndarray, k: int, *, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """As on a GPU."""
        assert params.sel is None, "a GPU ignores masks"
        assert self._busy.acquire(blocking=False), "a GPU serves one thread at a time"
        try:
            self.searches += 1
            if max(k, params.nprobe) > MOST:
                raise RuntimeError(f"GPU index only supports min/max-K selection up to {MOST}")
            if self.full:
                raise RuntimeError("Error: 'cudaMalloc error out of memory [2]'")
            found: tuple[np.ndarray, np.ndarray] = self._index.search(queries, k, params=params)
            return found
        finally:
            self._busy.release()


class Resources:
    """What `faiss.StandardGpuResources` would be."""

    def setPinnedMemory(self, size: int) -> None:  # noqa: N802 - Faiss's name
        """A stand-in holds none."""


class GpuBuild:
    """Faiss as it would be with GPUs: what was copied to them, as long as it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gpus: int = 1) -> None:
        self.full = False
        """Whether no GPU has memory left for another index."""
        self._copies: list[weakref.ref[StandIn]] = []
        monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", self._copied, raising=False)
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus)

    @property
    def copies(self) -> list[StandIn]:
        """The indexes in GPU memory."""
        return [there for copy in self._copies if (there := copy()) is not None]

    def _copied(self, _resources: object, gpu: int, index: Any) -> StandIn:
        if self.full:
            raise RuntimeError("Error in allocMemory: Error: 'err == cudaSuccess' failed:\nout of memory")
        copy = StandIn(index, gpu)
        self._copies.append(weakref.ref(copy))
        return copy
