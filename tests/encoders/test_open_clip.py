"""open_clip encoders: what open_clip itself computes, from files, for pictures and words."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import Encoder, EncoderConfigError, fingerprint_of, load_encoder
from visualindex.spec.models import EncoderSpec

pytestmark = pytest.mark.torch

Draw = Callable[..., npt.NDArray[np.uint8]]


def _spec(checkpoint: Path | str, **fields: object) -> EncoderSpec:
    base = {"family": "open_clip", "model": "tiny-clip", "checkpoint": str(checkpoint), "dimension": 32}
    return EncoderSpec.model_validate({**base, **fields})


@pytest.fixture(scope="module")
def encoder(clip_checkpoint: Path, cache_dir: Path) -> Encoder:
    return load_encoder(_spec(clip_checkpoint), cache_dir=cache_dir, threads=1)


def _reference(checkpoint: Path) -> tuple[Any, Any]:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms("tiny-clip", pretrained=str(checkpoint))
    return model.eval(), preprocess


def test_pictures_agree_with_open_clip(encoder: Encoder, clip_checkpoint: Path, draw: Draw) -> None:
    """Vectors equal open_clip's own, through its own preprocessing of pictures of the right size."""
    import torch
    from PIL import Image

    model, preprocess = _reference(clip_checkpoint)
    images = draw(5, size=64)
    with torch.inference_mode():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        expected = model.encode_image(pixels, normalize=True).numpy()
    assert np.abs(encoder.encode(images).vectors - expected).max() < 1e-5


def test_words_agree_with_open_clip(encoder: Encoder, clip_checkpoint: Path) -> None:
    """Text vectors equal open_clip's own and lie in the space of the pictures."""
    import open_clip
    import torch

    model, _ = _reference(clip_checkpoint)
    texts = ["a red chair", "a chair", "ein Stuhl " * 200]
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer("tiny-clip")(texts), normalize=True).numpy()
    vectors = encoder.encode_text(texts)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected).max() < 1e-5


def test_gives_patch_tokens(encoder: Encoder, draw: Draw) -> None:
    """A 64-pixel picture in 16-pixel patches has 4 x 4 tokens of the tower's width, row by row."""
    images = draw(2, size=64)
    encoded = encoder.encode(images, patches=True)
    assert encoded.patches is not None
    assert encoded.patches.shape == (2, 4, 4, 64)
    assert np.abs(encoded.vectors - encoder.encode(images).vectors).max() < 1e-6
    changed = images.copy()
    changed[0, :16, 48:] ^= 255
    again = encoder.encode(changed, patches=True).patches
    assert again is not None
    moved = np.abs(again - encoded.patches).sum(axis=-1)
    assert np.unravel_index(moved[0].argmax(), (4, 4)) == (0, 3)
    assert moved[1].max() == 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_close(
    precision: str, encoder: Encoder, clip_checkpoint: Path, cache_dir: Path, draw: Draw
) -> None:
    """Both towers run in half precision and agree with single precision to within its rounding."""
    half = load_encoder(_spec(clip_checkpoint, precision=precision), cache_dir=cache_dir)
    images = draw(4, size=64)
    assert np.sum(half.encode(images).vectors * encoder.encode(images).vectors, axis=1).min() > 0.999
    words = ["a dog", "a house"]
    assert np.sum(half.encode_text(words) * encoder.encode_text(words), axis=1).min() > 0.999
    assert half.fingerprint == encoder.fingerprint


def test_safetensors_are_another_file_of_the_same_vectors(
    encoder: Encoder, clip_checkpoint: Path, cache_dir: Path, tmp_path: Path, draw: Draw
) -> None:
    """A safetensors checkpoint loads too."""
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "tiny.safetensors"
    save_file(torch.load(clip_checkpoint, weights_only=True), path)
    images = draw(3, size=64)
    other = load_encoder(_spec(path), cache_dir=cache_dir)
    assert np.abs(other.encode(images).vectors - encoder.encode(images).vectors).max() < 1e-6


def test_fingerprint_is_known_without_loading(
    encoder: Encoder, clip_checkpoint: Path, cache_dir: Path
) -> None:
    """Equal to the loaded encoder's."""
    assert fingerprint_of(_spec(clip_checkpoint), cache_dir) == encoder.fingerprint


def test_the_default_preprocessing_is_a_centre_crop(encoder: Encoder) -> None:
    """open_clip's `shortest` mode is a centre crop of the model's size."""
    assert (encoder.input.height, encoder.input.width) == (64, 64)
    assert (encoder.input.resize, encoder.input.interpolation) == ("center_crop", "bicubic")


def test_a_tag_brings_its_own_preprocessing(clip_checkpoint: Path, cache_dir: Path) -> None:
    """SigLIP tags squash and scale to -1 … 1; OpenAI's tags use quick GELU."""
    from visualindex.encoders.open_clip_model import OpenClipModel
    from visualindex.encoders.placement import placement_of

    placement = placement_of(_spec(clip_checkpoint))
    siglip = OpenClipModel("ViT-B-16-SigLIP", clip_checkpoint, "webli", cache_dir, placement)
    assert siglip.input.resize == "squash"
    assert siglip.identity["mean"] == [0.5, 0.5, 0.5]
    openai = OpenClipModel("ViT-B-32", clip_checkpoint, "openai", cache_dir, placement)
    assert openai.identity["quick_gelu"] is True
    assert openai.dimension == 512


def test_a_checkpoint_of_another_model_is_refused(clip_checkpoint: Path, cache_dir: Path) -> None:
    """Missing or misshapen weights are an error, never random numbers."""
    with pytest.raises(EncoderConfigError, match="does not load as open_clip model ViT-S-32"):
        load_encoder(_spec(clip_checkpoint, model="ViT-S-32", dimension=384), cache_dir=cache_dir)


def test_a_pickle_that_runs_code_is_refused(cache_dir: Path, tmp_path: Path) -> None:
    """A hostile checkpoint is refused before its code runs, also in the zip form."""
    program = "import sys, torch, os\nclass H:\n  def __reduce__(self): return os.mkdir, (sys.argv[2],)\n"
    program += "torch.save({'a': H()}, sys.argv[1])"
    trap = tmp_path / "trap"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "h.pt"), str(trap)], check=True)
    with pytest.raises(EncoderConfigError, match="does not load"):
        load_encoder(_spec(tmp_path / "h.pt"), cache_dir=cache_dir)
    assert not trap.exists()


def test_names_what_it_does_not_know(clip_checkpoint: Path, cache_dir: Path) -> None:
    """Unknown models and tags are refused with where to look."""
    with pytest.raises(EncoderConfigError, match="ViT-Z-99 is no open_clip model"):
        load_encoder(_spec(clip_checkpoint, model="ViT-Z-99"), cache_dir=cache_dir)
    with pytest.raises(
        EncoderConfigError, match=r"no weights `nowhere` for ViT-B-32; its tags are: .*openai"
    ):
        load_encoder(_spec("hub:nowhere", model="ViT-B-32"), cache_dir=cache_dir)


def test_a_shorter_vector_needs_a_projection(clip_checkpoint: Path, cache_dir: Path) -> None:
    """No projection ships for checkpoints of users: the error says how to get one."""
    with pytest.raises(EncoderConfigError, match="visualindex encoder fit"):
        load_encoder(_spec(clip_checkpoint, dimension=16), cache_dir=cache_dir)
