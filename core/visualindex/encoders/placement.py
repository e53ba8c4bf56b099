"""Decides where an encoder runs: turns every `auto` of its specification into a runtime, a device and a precision."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from visualindex.encoders.base import Device, EncoderConfigError
from visualindex.spec.models import EncoderSpec

Runtime = Literal["openvino", "onnxruntime", "torch"]
Precision = Literal["float32", "float16", "bfloat16"]

CPU_RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino", "torch")
"""Fastest measured first (docs/encoders.md)."""


@dataclass(frozen=True)
class Placement:
    """Where and how a model computes."""

    runtime: Runtime
    device: Device
    precision: Precision


def placement_of(spec: EncoderSpec) -> Placement:
    """The placement a specification asks for. Raises EncoderConfigError for one that cannot be."""
    device = _device(spec)
    runtime = _runtime(spec, device)
    precision = _precision(spec, device)
    if runtime == "onnxruntime" and precision != "float32":
        raise EncoderConfigError(
            f"encoder.precision {precision} needs another runtime: onnxruntime takes float32"
        )
    return Placement(runtime, device, precision)


def _device(spec: EncoderSpec) -> Device:
    if spec.device == "auto":
        return "cuda" if spec.num_gpus > 0 else "cpu"
    return spec.device


def _runtime(spec: EncoderSpec, device: Device) -> Runtime:
    possible: tuple[Runtime, ...] = (
        CPU_RUNTIMES if spec.family == "efficientnet-lite0" and device == "cpu" else ("torch",)
    )
    if spec.runtime == "auto":
        half = _precision(spec, device) != "float32"
        return _first_installed(tuple(r for r in possible if not (half and r == "onnxruntime")))
    if spec.runtime not in possible:
        raise EncoderConfigError(
            f"encoder.runtime {spec.runtime} does not run {spec.family} on {device}: use auto or torch"
        )
    return spec.runtime


def _first_installed(runtimes: tuple[Runtime, ...]) -> Runtime:
    for runtime in runtimes:
        if importlib.util.find_spec(runtime):
            return runtime
    extra = "torch" if runtimes == ("torch",) else "cpu"
    raise EncoderConfigError(
        f"no runtime for the encoder is installed, of {', '.join(runtimes)}: pip install 'visualindex[{extra}]'"
    )


def _precision(spec: EncoderSpec, device: Device) -> Precision:
    if spec.precision == "auto":
        return "float16" if device == "cuda" else "float32"
    return spec.precision
