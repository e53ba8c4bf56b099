"""timm and torchvision backbones: any classifier's features as vectors, from a checkpoint in timm's names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.data.config import resolve_data_config

from visualindex.encoders.backbone import Backbone
from visualindex.encoders.base import EncoderConfigError, Fetch
from visualindex.encoders.checkpoint import hub_tag, local_file
from visualindex.encoders.fingerprint import file_digest
from visualindex.encoders.placement import Placement
from visualindex.encoders.torch_runtime import TorchBackbone, in_pixels, input_spec
from visualindex.imaging.inputs import InputSpec

_resolve: Any = resolve_data_config  # untyped in timm


class TimmTowers:
    """A timm model without its classifier."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pooled features [n, d]."""
        features: torch.Tensor = self.module(pixels)
        return features

    def pooled_with_patches(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features [n, d] and the last stage's map, [n, channels, rows, columns]."""
        final, maps = self.module.forward_intermediates(pixels, indices=1, norm=True, output_fmt="NCHW")
        return self.module.forward_head(final), maps[-1]

    def tokens(self, texts: Sequence[str]) -> None:
        """None: there is no text tower."""

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Never called, since there are no tokens."""
        raise NotImplementedError


@dataclass(frozen=True)
class TimmModel:
    """A timm architecture (`resnet50`, or `resnet50.tag` for the tag's preprocessing) and its weights file."""

    name: str
    weights: Path
    placement: Placement

    default_projection = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Architecture, digest of the weights, preprocessing."""
        return {
            "model": f"timm/{self.name.partition('.')[0]}",
            "weights": file_digest(self.weights),
            "mean": list(self._preprocessing["mean"]),
            "std": list(self._preprocessing["std"]),
        }

    @cached_property
    def dimension(self) -> int:
        """Length of the pooled features."""
        with torch.device("meta"):
            module: Any = timm.create_model(self.name, pretrained=False, num_classes=0)
        return int(getattr(module, "head_hidden_size", None) or module.num_features)

    @cached_property
    def input(self) -> InputSpec:
        """timm's preprocessing, but with the whole centre square instead of timm's margin around it."""
        wanted = self._preprocessing
        resize: Literal["squash", "center_crop"] = (
            "squash" if wanted["crop_mode"] == "squash" else "center_crop"
        )
        return input_spec(wanted["input_size"][1:], resize, wanted["interpolation"])

    def load(self, threads: int) -> Backbone:
        """Load it, every weight but the classifier's accounted for."""
        module = timm.create_model(self.name, pretrained=False, num_classes=0)
        try:
            state = timm.models.load_state_dict(str(self.weights), weights_only=True)
            module.load_state_dict(self._without_classifier(state), strict=True)
        except Exception as e:  # torch, pickle and safetensors each have their own
            raise EncoderConfigError(f"{self.weights} does not load as timm model {self.name}: {e}") from e
        wanted = self._preprocessing
        return TorchBackbone(
            TimmTowers(module),
            self.placement,
            mean=in_pixels(wanted["mean"]),
            std=in_pixels(wanted["std"]),
            threads=threads,
        )

    def _without_classifier(self, state: dict[str, Any]) -> dict[str, Any]:
        names = self._defaults.classifier or ()
        prefixes = tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
        return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}

    @cached_property
    def _defaults(self) -> Any:
        return _pretrained_config(self.name)

    @cached_property
    def _preprocessing(self) -> dict[str, Any]:
        config: dict[str, Any] = _resolve(pretrained_cfg=self._defaults.to_dict())
        return config


def timm_model(
    name: str, checkpoint: str, *, cache_dir: Path, fetch: Fetch | None, placement: Placement
) -> TimmModel:
    """Find the weights (a path, an `s3://` URL or `hub:TAG`). Raises EncoderConfigError where there are none."""
    _pretrained_config(name)
    tag = hub_tag(checkpoint)
    if tag is not None:
        tagged = f"{name.partition('.')[0]}.{tag}"
        return TimmModel(tagged, _from_hub(tagged, cache_dir / "hub"), placement)
    weights = local_file(checkpoint, cache_dir=cache_dir, fetch=fetch, what="encoder.checkpoint")
    return TimmModel(name, weights, placement)


def _pretrained_config(name: str) -> Any:
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        raise EncoderConfigError(
            f"encoder.model {name} is no timm model: see timm.list_models(pretrained=True)"
        )
    return config


def _from_hub(tagged: str, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    config = _pretrained_config(tagged)
    try:
        return Path(hf_hub_download(config.hf_hub_id, "model.safetensors", cache_dir=folder))
    except Exception as e:  # whatever the hub's client raises
        raise EncoderConfigError(
            f"the weights {tagged} cannot be fetched from the hub ({e}): give a file or an s3:// URL instead"
        ) from e
