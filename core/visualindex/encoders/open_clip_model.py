"""open_clip encoders: pictures and words in one space, from any checkpoint of any open_clip architecture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch

from visualindex.encoders.backbone import Backbone
from visualindex.encoders.base import EncoderConfigError, Fetch
from visualindex.encoders.checkpoint import hub_tag, local_file
from visualindex.encoders.fingerprint import file_digest
from visualindex.encoders.placement import Placement
from visualindex.encoders.torch_runtime import TorchBackbone, in_pixels, input_spec
from visualindex.imaging.inputs import InputSpec

_RESIZES: dict[str, Literal["squash", "center_crop"]] = {"shortest": "center_crop", "squash": "squash"}


class OpenClipTowers:
    """The image and text towers of an open_clip model."""

    def __init__(self, module: Any, tokenizer: Any) -> None:
        self.module = module
        self._tokenizer = tokenizer

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image features [n, d]."""
        features: torch.Tensor = self.module.encode_image(pixels)
        return features

    def pooled_with_patches(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image features [n, d] and the last layer's patch tokens or map, [n, channels, rows, columns]."""
        outputs = self.module.forward_intermediates(
            pixels, image_indices=1, normalize=False, normalize_intermediates=True, image_output_fmt="NCHW"
        )
        return outputs["image_features"], outputs["image_intermediates"][-1]

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids [n, context length]; longer texts are cut."""
        tokens: torch.Tensor = self._tokenizer(list(texts))
        return tokens

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Text features [n, d]."""
        features: torch.Tensor = self.module.encode_text(tokens)
        return features


@dataclass(frozen=True)
class OpenClipModel:
    """An open_clip architecture and where its weights are; `tag` when they come from a hub, else None."""

    name: str
    weights: Path
    tag: str | None
    cache_dir: Path
    placement: Placement

    default_projection = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Architecture, digest of the weights, preprocessing."""
        return {
            "model": f"open_clip/{self.name}",
            "architecture": self._config,
            "weights": file_digest(self.weights),
            "mean": list(self._preprocessing.mean),
            "std": list(self._preprocessing.std),
            "quick_gelu": self._quick_gelu,
        }

    @property
    def dimension(self) -> int:
        """Length of the joint space's vectors."""
        return int(self._config["embed_dim"])

    @cached_property
    def input(self) -> InputSpec:
        """The pixels that open_clip's own preprocessing would make."""
        wanted, mode = self._preprocessing, self._preprocessing.resize_mode
        if mode not in _RESIZES:
            raise EncoderConfigError(
                f"{self.name} wants pictures resized by `{mode}`, which is not supported"
            )
        return input_spec(self._config["vision_cfg"]["image_size"], _RESIZES[mode], wanted.interpolation)

    def load(self, threads: int) -> Backbone:
        """Load both towers, every weight accounted for."""
        try:
            # The file is always complete: base weights of a tower must not be fetched only to be overwritten.
            module = open_clip.create_model(
                self.name,
                pretrained=str(self.weights),
                pretrained_text=False,
                force_quick_gelu=self._quick_gelu,
                weights_only=True,
            )
            tokenizer = open_clip.get_tokenizer(self.name, cache_dir=str(self.cache_dir / "hub"))
        except Exception as e:  # open_clip raises what torch, pickle, the file system or a hub raise
            raise EncoderConfigError(
                f"{self.weights} does not load as open_clip model {self.name}: {e}"
            ) from e
        wanted = self._preprocessing
        return TorchBackbone(
            OpenClipTowers(module, tokenizer),
            self.placement,
            mean=in_pixels(wanted.mean),
            std=in_pixels(wanted.std),
            threads=threads,
        )

    @cached_property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] | None = open_clip.get_model_config(self.name)
        if config is None:
            raise EncoderConfigError(
                f"encoder.model {self.name} is no open_clip model: see open_clip.list_models()"
            )
        return config

    @cached_property
    def _preprocessing(self) -> open_clip.transform.PreprocessCfg:
        merged = open_clip.transform.merge_preprocess_dict(
            open_clip.transform.PreprocessCfg(), self._tag_config
        )
        return open_clip.transform.PreprocessCfg(**merged)

    @property
    def _quick_gelu(self) -> bool:
        # OpenAI's weights were trained with it; the hub's tag says so where the architecture's name does not.
        return bool(self._config.get("quick_gelu") or self._tag_config.get("quick_gelu"))

    @property
    def _tag_config(self) -> dict[str, Any]:
        return dict(open_clip.get_pretrained_cfg(self.name, self.tag)) if self.tag else {}


def open_clip_model(
    name: str, checkpoint: str, *, cache_dir: Path, fetch: Fetch | None, placement: Placement
) -> OpenClipModel:
    """Find the weights (a path, an `s3://` URL or `hub:TAG`). Raises EncoderConfigError where there are none."""
    tag = hub_tag(checkpoint)
    if tag is None:
        weights = local_file(checkpoint, cache_dir=cache_dir, fetch=fetch, what="encoder.checkpoint")
    else:
        weights = _from_hub(name, tag, cache_dir / "hub")
    return OpenClipModel(name, weights, tag, cache_dir, placement)


def _from_hub(name: str, tag: str, folder: Path) -> Path:
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise EncoderConfigError(f"open_clip knows no weights `{tag}` for {name}; its tags are: {known}")
    try:
        return Path(open_clip.download_pretrained(config, cache_dir=str(folder)))
    except Exception as e:  # whatever the hub's client raises
        raise EncoderConfigError(
            f"the weights {name}:{tag} cannot be fetched from the hub ({e}): give a file or an s3:// URL instead"
        ) from e
