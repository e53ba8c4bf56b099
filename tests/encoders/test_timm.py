"""timm backbones: pooled features of any classifier, from files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import (
    Encoder,
    EncoderConfigError,
    TextNotSupportedError,
    fingerprint_of,
    load_encoder,
)
from visualindex.spec.models import EncoderSpec

pytestmark = pytest.mark.torch

Draw = Callable[..., npt.NDArray[np.uint8]]


def _spec(checkpoint: Path | str, **fields: object) -> EncoderSpec:
    base = {"family": "timm", "model": "resnet10t", "checkpoint": str(checkpoint), "dimension": 512}
    return EncoderSpec.model_validate({**base, **fields})


@pytest.fixture(scope="module")
def encoder(resnet_checkpoint: Path, cache_dir: Path) -> Encoder:
    return load_encoder(_spec(resnet_checkpoint), cache_dir=cache_dir)


def test_agrees_with_timm(encoder: Encoder, resnet_checkpoint: Path, draw: Draw) -> None:
    """Vectors are timm's pooled features after timm's own normalisation."""
    import timm
    import torch

    model: Any = timm.create_model("resnet10t", checkpoint_path=str(resnet_checkpoint)).eval()
    images = draw(3, size=encoder.input.height)
    config = model.pretrained_cfg
    scaled = (images / 255 - np.array(config["mean"])) / np.array(config["std"])
    with torch.inference_mode():
        pixels = torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2)
        pooled = model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    assert np.sum(encoder.encode(images).vectors * expected, axis=1).min() >= 0.99999


def test_gives_the_last_map(encoder: Encoder, draw: Draw) -> None:
    """Patches average to the pooled features: they are the map that was pooled."""
    size = encoder.input.height
    encoded = encoder.encode(draw(2, size=size), patches=True)
    assert encoded.patches is not None
    assert encoded.patches.shape == (2, -(-size // 32), -(-size // 32), 512)
    mean = encoded.patches.astype(np.float32).mean(axis=(1, 2))
    cosines = np.sum(mean * encoded.vectors, axis=1) / np.linalg.norm(mean, axis=1)
    assert cosines.min() > 0.9999


def test_every_weight_must_be_there(resnet_checkpoint: Path, cache_dir: Path, tmp_path: Path) -> None:
    """A checkpoint that lacks a layer is refused instead of running on random numbers."""
    import torch

    state = torch.load(resnet_checkpoint, weights_only=True)
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "partial.pt")
    with pytest.raises(EncoderConfigError, match=r"layer1\.0\.conv1\.weight"):
        load_encoder(_spec(tmp_path / "partial.pt"), cache_dir=cache_dir)


def test_safetensors_load_too(
    encoder: Encoder, resnet_checkpoint: Path, cache_dir: Path, tmp_path: Path, draw: Draw
) -> None:
    """The same weights as safetensors give the same vectors."""
    import torch
    from safetensors.torch import save_file

    save_file(torch.load(resnet_checkpoint, weights_only=True), tmp_path / "r.safetensors")
    other = load_encoder(_spec(tmp_path / "r.safetensors"), cache_dir=cache_dir)
    images = draw(2, size=encoder.input.height)
    assert np.abs(other.encode(images).vectors - encoder.encode(images).vectors).max() < 1e-6


def test_fingerprint_is_known_without_loading(
    encoder: Encoder, resnet_checkpoint: Path, cache_dir: Path
) -> None:
    """Equal to the loaded encoder's."""
    assert fingerprint_of(_spec(resnet_checkpoint), cache_dir) == encoder.fingerprint


def test_resnet50_is_2048_wide(resnet_checkpoint: Path, cache_dir: Path) -> None:
    """The dimension of an architecture is known without its weights; asking for more is refused."""
    with pytest.raises(EncoderConfigError, match="the model has 2048"):
        fingerprint_of(_spec(resnet_checkpoint, model="resnet50", dimension=4096), cache_dir)


def test_a_tag_in_the_name_brings_its_preprocessing(resnet_checkpoint: Path, cache_dir: Path) -> None:
    """`resnet50.tv_in1k` is preprocessed as torchvision did, bilinear; `resnet50` as timm's default tag."""
    prints = {
        fingerprint_of(_spec(resnet_checkpoint, model=name, dimension=2048), cache_dir)
        for name in ("resnet50", "resnet50.tv_in1k")
    }
    assert len(prints) == 2


def test_refuses_unknown_models_and_words(encoder: Encoder, resnet_checkpoint: Path, cache_dir: Path) -> None:
    """A misspelt model is named; a classifier has no text tower."""
    with pytest.raises(EncoderConfigError, match="resnet51 is no timm model"):
        load_encoder(_spec(resnet_checkpoint, model="resnet51"), cache_dir=cache_dir)
    with pytest.raises(TextNotSupportedError, match="open_clip"):
        encoder.encode_text(["a chair"])
