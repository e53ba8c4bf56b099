"""EfficientNet-Lite0 on torch: the reference for the ONNX graph, and the way the bundled encoder uses a GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from visualindex.encoders.lite0_architecture import MEAN, PATCH_STAGE, SCALE
from visualindex.encoders.placement import Placement
from visualindex.encoders.torch_pickle import read_state_dict
from visualindex.encoders.torch_runtime import TorchBackbone


class Lite0Towers:
    """timm's `tf_efficientnet_lite0`, cut after the stage that gives the patches."""

    def __init__(self, weights: Path) -> None:
        self.module: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        tensors = (torch.from_numpy(value) for value in read_state_dict(weights).values())
        # The published file has other names but the same order; strict pairing catches a file that has not.
        named = dict(zip(self.module.state_dict(), tensors, strict=True))
        self.module.load_state_dict(named, strict=True)

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features [n, 1280]."""
        features: torch.Tensor = self.module.forward_head(
            self.module.forward_features(pixels), pre_logits=True
        )
        return features

    def pooled_with_patches(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [n, 1280] and the map half-way, [n, 112, 14, 14]."""
        model = self.module
        grid = model.blocks[: PATCH_STAGE + 1](model.bn1(model.conv_stem(pixels)))
        last = model.bn2(model.conv_head(model.blocks[PATCH_STAGE + 1 :](grid)))
        return model.forward_head(last, pre_logits=True), grid

    def tokens(self, texts: Sequence[str]) -> None:
        """None: there is no text tower."""

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Never called, since there are no tokens."""
        raise NotImplementedError


def load_lite0(weights: Path, placement: Placement, threads: int) -> TorchBackbone:
    """Load a legacy `.pth` state dict of EfficientNet-Lite0 into timm's model."""
    mean, scale = (MEAN,) * 3, (SCALE,) * 3
    return TorchBackbone(Lite0Towers(weights), placement, mean=mean, std=scale, threads=threads)
