"""Runs an ONNX file on ONNX Runtime: the fastest measured runtime for the bundled encoder on CPU."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from visualindex.encoders.backbone import Features
from visualindex.encoders.base import Device, Images, Load, Parallelism, TextNotSupportedError, Vectors


class OnnxRuntimeBackbone:
    """An ONNX model with the outputs `pooled` and `patches` in two sessions: all threads, and one thread per call."""

    device: Device = "cpu"
    prefers: Load = "calls"

    def __init__(self, onnx_file: Path, *, threads: int) -> None:
        self._sessions = {
            "latency": _session(onnx_file, threads),
            "throughput": _session(onnx_file, 1),
        }
        self._slots = {"latency": threading.Semaphore(1), "throughput": threading.Semaphore(threads)}

    def run(self, images: Images, *, patches: bool, parallelism: Parallelism) -> Features:
        """Raw features; at most one latency call, and as many throughput calls as there are threads, run at once."""
        names = ["pooled", "patches"] if patches else ["pooled"]
        with self._slots[parallelism]:
            outputs = self._sessions[parallelism].run(names, {"images": images})
        return Features(outputs[0], outputs[1].astype(np.float16) if patches else None)

    def run_text(self, texts: Sequence[str]) -> Vectors:
        """Always raises: there is no text tower."""
        raise TextNotSupportedError("this encoder has no text tower: use an open_clip encoder for text")

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()


def _session(onnx_file: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait starve the decoders and shards beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
