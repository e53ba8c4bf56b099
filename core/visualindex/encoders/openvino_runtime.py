"""Runs an ONNX file on OpenVINO: the second choice on CPU, and the one for half precision there."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from visualindex.encoders.backbone import Features
from visualindex.encoders.base import Device, Images, Load, Parallelism, TextNotSupportedError, Vectors


class OpenVinoBackbone:
    """An ONNX model with the outputs `pooled` and `patches`, compiled twice.

    The latency variant spreads one inference over all threads, the throughput variant runs as many one-thread
    inferences side by side as there are threads. Infer requests are pooled, since one serves one call at a time.
    """

    device: Device = "cpu"
    prefers: Load = "calls"

    def __init__(self, onnx_file: Path, *, threads: int, precision: str) -> None:
        core = openvino.Core()
        model = core.read_model(onnx_file)
        self._pools = {
            "latency": _request_pool(core, model, threads=threads, streams=1, precision=precision),
            "throughput": _request_pool(core, model, threads=threads, streams=threads, precision=precision),
        }

    def run(self, images: Images, *, patches: bool, parallelism: Parallelism) -> Features:
        """Raw features; waits for a free infer request of the variant."""
        with _borrowed(self._pools[parallelism]) as request:
            outputs = request.infer({"images": images}, share_inputs=True, share_outputs=True)
            pooled = np.array(outputs["pooled"])
            grid = outputs["patches"].astype(np.float16) if patches else None
        return Features(pooled, grid)

    def run_text(self, texts: Sequence[str]) -> Vectors:
        """Always raises: there is no text tower."""
        raise TextNotSupportedError("this encoder has no text tower: use an open_clip encoder for text")

    def close(self) -> None:
        """Free the compiled models."""
        self._pools.clear()


def _request_pool(
    core: Any, model: Any, *, threads: int, streams: int, precision: str
) -> "queue.SimpleQueue[Any]":
    # Pinning would tie every process of a node to the same first cores; OpenVINO would also choose bfloat16 by itself
    # where the CPU has it, and the vectors would then depend on the machine.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[precision],
    }
    compiled = core.compile_model(model, "CPU", settings)
    pool: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(streams):
        pool.put(compiled.create_infer_request())
    return pool


@contextmanager
def _borrowed(pool: "queue.SimpleQueue[Any]") -> Iterator[Any]:
    request = pool.get()
    try:
        yield request
    finally:
        pool.put(request)
