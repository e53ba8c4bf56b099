"""EfficientNet-Lite0 as an ONNX graph, built from its state dict so that serving needs neither torch nor an exporter.

Batch norms are folded into the convolutions, and the preprocessing is part of the graph.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from visualindex.encoders.lite0_architecture import (
    BN_EPSILON,
    DIMENSION,
    MEAN,
    PATCH_CHANNELS,
    PATCH_GRID,
    PATCH_STAGE,
    SCALE,
    SIZE,
    STAGES,
    Stage,
)


class _Unit(NamedTuple):
    """One convolution with its batch norm, as they follow each other in the state dict."""

    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclass
class _Graph:
    """The nodes and constants gathered so far, and the units still to be placed."""

    units: Iterator[_Unit]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def conv(self, x: str, *, stride: int = 1, depthwise: bool = False, relu6: bool = True) -> str:
        """The next unit applied to `x`. Strided convolutions pad as TensorFlow's SAME does: the odd pixel at the end."""
        kernel, bias = next(self.units)
        n = len(self.nodes)
        out = self.node(
            "Conv",
            x,
            self.constant(f"kernel_{n}", kernel),
            self.constant(f"bias_{n}", bias),
            strides=[stride, stride],
            auto_pad="SAME_UPPER",
            group=kernel.shape[0] if depthwise else 1,
        )
        return self.node("Clip", out, "zero", "six") if relu6 else out

    def block(self, x: str, stride: int, *, expand: bool, residual: bool) -> str:
        """An inverted residual: expand, depthwise, project, and add the input where shapes allow."""
        y = self.conv(x) if expand else x
        y = self.conv(y, stride=stride, depthwise=True)
        y = self.conv(y, relu6=False)
        return self.node("Add", y, x) if residual else y


def build_graph(state: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The serialised ONNX model of a Lite0 state dict.

    Input `images`: uint8[n, 224, 224, 3] RGB. Outputs `pooled`: float32[n, 1280], the features before the classifier,
    and `patches`: float32[n, 14, 14, 112], the map half-way. Raises ValueError for a state dict of another model.
    """
    graph = _Graph(iter(_units(state)))
    graph.constant("zero", np.array(0.0, np.float32))
    graph.constant("six", np.array(6.0, np.float32))
    x = graph.conv(_preprocess(graph), stride=2)
    for number, stage in enumerate(STAGES):
        x = _stage(graph, x, stage)
        if number == PATCH_STAGE:
            graph.node("Transpose", x, output="patches", perm=[0, 2, 3, 1])
    x = graph.node("GlobalAveragePool", graph.conv(x))
    graph.node("Flatten", x, output="pooled", axis=1)
    return _model(graph)


def classifier(state: Mapping[str, npt.NDArray[Any]]) -> _Unit:
    """The ImageNet classifier over the pooled features: float32[1000, 1280] and float32[1000]."""
    weight, bias = list(state.values())[-2:]
    return _Unit(weight.astype(np.float32), bias.astype(np.float32))


def _preprocess(graph: _Graph) -> str:
    x = graph.node("Cast", "images", to=TensorProto.FLOAT)
    x = graph.node("Sub", x, graph.constant("mean", np.array(MEAN, np.float32)))
    x = graph.node("Mul", x, graph.constant("scale", np.array(1 / SCALE, np.float32)))
    return graph.node("Transpose", x, perm=[0, 3, 1, 2])


def _stage(graph: _Graph, x: str, stage: Stage) -> str:
    for block in range(stage.repeats):
        stride = stage.stride if block == 0 else 1
        x = graph.block(x, stride, expand=stage.expansion > 1, residual=block > 0)
    return x


def _units(state: Mapping[str, npt.NDArray[Any]]) -> list[_Unit]:
    """The convolutions in order, each with its batch norm folded in; the classifier's two tensors are left out.

    Published files differ in names but not in order: kernel, then weight, bias, mean, variance and a counter.
    """
    tensors = list(state.values())[:-2]
    expected = 1 + sum(stage.repeats * (3 if stage.expansion > 1 else 2) for stage in STAGES) + 1
    if len(tensors) != expected * 6 or any(tensor.ndim != 4 for tensor in tensors[::6]):
        raise ValueError(
            f"the state dict has {len(state)} tensors, but EfficientNet-Lite0 has {expected * 6 + 2}: "
            "give the weights of that model"
        )
    return [_folded(*tensors[at : at + 5]) for at in range(0, len(tensors), 6)]


def _folded(
    kernel: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    bias: npt.NDArray[Any],
    mean: npt.NDArray[Any],
    variance: npt.NDArray[Any],
) -> _Unit:
    scale = weight.astype(np.float64) / np.sqrt(variance.astype(np.float64) + BN_EPSILON)
    folded = kernel * scale[:, None, None, None]
    return _Unit(folded.astype(np.float32), (bias - mean * scale).astype(np.float32))


def _model(graph: _Graph) -> bytes:
    n, grid = "n", PATCH_GRID
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, [n, SIZE, SIZE, 3])]
    outputs = [
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [n, DIMENSION]),
        helper.make_tensor_value_info("patches", TensorProto.FLOAT, [n, grid, grid, PATCH_CHANNELS]),
    ]
    body = helper.make_graph(graph.nodes, "efficientnet-lite0", inputs, outputs, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
