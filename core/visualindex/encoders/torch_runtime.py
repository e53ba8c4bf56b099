"""Runs a torch model: half precision, channels-last and pinned transfers on a GPU, plain float32 on CPU."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch

from visualindex.encoders.backbone import Features
from visualindex.encoders.base import (
    Device,
    EncoderConfigError,
    Images,
    Load,
    Parallelism,
    TextNotSupportedError,
    Vectors,
)
from visualindex.encoders.placement import Placement
from visualindex.imaging.inputs import InputSpec

_INTERPOLATIONS: dict[str, Literal["bicubic", "bilinear"]] = {"bicubic": "bicubic", "bilinear": "bilinear"}


class Towers(Protocol):
    """What a family makes of its torch module. Pixels come normalised as [n, 3, height, width]."""

    module: torch.nn.Module

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features [n, d]."""

    def pooled_with_patches(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [n, d] and the map they were pooled from or a map half-way, [n, channels, rows, columns]."""

    def tokens(self, texts: Sequence[str]) -> torch.Tensor | None:
        """Texts as token ids [n, length]; None where there is no text tower."""

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Text features [n, d]."""


class TorchBackbone:
    """A torch module on its device. `mean` and `std` are per channel, in pixel values 0 … 255.

    On CPU the number of threads is torch's own, one for the whole process, and `parallelism` makes no difference.
    """

    def __init__(
        self,
        towers: Towers,
        placement: Placement,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        threads: int,
    ) -> None:
        self.device: Device = placement.device
        self.prefers: Load = "batches"
        self._dtype: torch.dtype = getattr(torch, placement.precision)
        self._torch_device = _usable(placement.device)
        if self.device == "cpu":
            torch.set_num_threads(threads)
        towers.module.requires_grad_(requires_grad=False).eval()
        towers.module.to(self._torch_device, self._dtype).to(memory_format=torch.channels_last)
        self._towers = towers
        self._mean, self._std = self._per_channel(mean), self._per_channel(std)

    def run(self, images: Images, *, patches: bool, parallelism: Parallelism) -> Features:
        """Raw features of uint8[n, height, width, 3]."""
        with torch.inference_mode():
            pixels = self._pixels(images)
            if not patches:
                return Features(_float32(self._towers.pooled(pixels)))
            pooled, grid = self._towers.pooled_with_patches(pixels)
            return Features(_float32(pooled), grid.permute(0, 2, 3, 1).to(torch.float16).cpu().numpy())

    def run_text(self, texts: Sequence[str]) -> Vectors:
        """Raw text features: float32[n, d]."""
        with torch.inference_mode():
            tokens = self._towers.tokens(texts)
            if tokens is None:
                raise TextNotSupportedError(
                    "this encoder has no text tower: use an open_clip encoder for text"
                )
            return _float32(self._towers.text(tokens.to(self._torch_device)))

    def close(self) -> None:
        """Free the model's memory, on the device too."""
        del self._towers
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _pixels(self, images: Images) -> torch.Tensor:
        """Normalised [n, 3, height, width], channels last in memory: the layout the images already have."""
        pixels = torch.empty(images.shape, dtype=torch.uint8, pin_memory=self.device == "cuda")
        pixels.numpy()[...] = images
        pixels = pixels.to(self._torch_device, non_blocking=True)
        scaled = (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._std
        return scaled.to(self._dtype)

    def _per_channel(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._torch_device).view(1, 3, 1, 1)


def in_pixels(fractions: Sequence[float]) -> list[float]:
    """A mean or deviation given for pixels scaled to 0 … 1, as most models state theirs, in pixel values."""
    return [255.0 * value for value in fractions]


def input_spec(
    size: int | Sequence[int], resize: Literal["squash", "center_crop"], interpolation: str
) -> InputSpec:
    """The pixels a model takes: `size` is an edge of a square or (height, width). Raises EncoderConfigError."""
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if interpolation not in _INTERPOLATIONS:
        raise EncoderConfigError(f"the model wants {interpolation} interpolation, which is not supported")
    return InputSpec(height, width, resize, _INTERPOLATIONS[interpolation])


def _usable(device: Device) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise EncoderConfigError(
            "the encoder is to run on CUDA, but torch sees no GPU: set encoder.device to cpu or give the pod a GPU"
        )
    return torch.device(device)


def _float32(features: torch.Tensor) -> Vectors:
    array: Vectors = features.float().cpu().numpy().astype(np.float32, copy=False)
    return array
