"""Runs an ONNX file on ONNX Runtime: the fastest measured runtime for the bundled encoder on CPU."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

# Read on import, which would report this machine to the runtime's makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from visualindex.encoders.backbone import Features
from visualindex.encoders.base import Device, Images, Load, Parallelism, TextNotSupportedError, Vectors


class OnnxRuntimeBackbone:
    """An ONNX model with the outputs `pooled` and `patches` in two sessions: all threads, and one thread per call."""

    device: Device = "cpu"
    prefers: Load = "calls"

    def __init__(self, onnx_file: Path, *, threads: int) -> None:
        self._pair = _pair_of_cpus(threads)
        self._sessions = {
            "latency": _session(onnx_file, threads, helper_cpu=self._pair and self._pair[1]),
            "throughput": _session(onnx_file, 1),
        }
        self._slots = {"latency": threading.Semaphore(1), "throughput": threading.Semaphore(threads)}

    def run(self, images: Images, *, patches: bool, parallelism: Parallelism) -> Features:
        """Raw features; at most one latency call, and as many throughput calls as there are threads, run at once."""
        names = ["pooled", "patches"] if patches else ["pooled"]
        apart = _kept_on(self._pair[0]) if self._pair and parallelism == "latency" else nullcontext()
        with self._slots[parallelism], apart:
            outputs = self._sessions[parallelism].run(names, {"images": images})
        return Features(outputs[0], outputs[1].astype(np.float16) if patches else None)

    def run_text(self, texts: Sequence[str]) -> Vectors:
        """Always raises: there is no text tower."""
        raise TextNotSupportedError("this encoder has no text tower: use an open_clip encoder for text")

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()


def _pair_of_cpus(threads: int) -> tuple[int, int] | None:
    """The CPUs for a caller and its helper thread where two threads have exactly two CPUs.

    There the kernel, which on a larger machine finds an idle one, often wakes the helper on the caller's CPU while the
    other idles, and the two run one after the other: measured in a service, a tenth of a lone search.
    """
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[1]) if threads == 2 and len(cpus) == 2 else None


@contextmanager
def _kept_on(cpu: int) -> Iterator[None]:
    """Keep the calling thread on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _session(onnx_file: Path, threads: int, *, helper_cpu: int | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait starve the decoders and shards beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if helper_cpu is not None:  # counted from one; the caller is no thread of the session's
        options.add_session_config_entry("session.intra_op_thread_affinities", str(helper_cpu + 1))
    return onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
