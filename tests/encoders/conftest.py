"""Real models for the encoder tests: the bundled weights, and tiny random ones saved as checkpoints."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import Encoder, load_encoder, load_unprojected
from visualindex.spec.models import EncoderSpec

Draw = Callable[..., npt.NDArray[np.uint8]]

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoder-cache")


@pytest.fixture(scope="session")
def lite0(cache_dir: Path) -> Iterator[Encoder]:
    encoder = load_encoder(EncoderSpec(), cache_dir=cache_dir, threads=2)
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def unprojected(cache_dir: Path) -> Iterator[Encoder]:
    encoder = load_unprojected(EncoderSpec(), cache_dir=cache_dir, threads=2)
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Makes pictures with edges, colours and smooth areas, unlike noise: uint8[count, size, size, 3]."""
    return _drawings


def _drawings(count: int, size: int = 224, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.stack([_drawing(rng, size) for _ in range(count)])


def _drawing(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    image = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(int(rng.integers(2, 7))):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        a, b = (tuple(int(v) for v in rng.integers(0, size, 2)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.circle(image, a, int(rng.integers(size // 20 + 1, size // 3)), colour, -1)
        else:
            cv2.rectangle(image, a, b, colour, -1)
    return cv2.GaussianBlur(image, (3, 3), 0).astype(np.uint8)


@pytest.fixture(scope="session")
def clip_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny open_clip model of random weights, registered as `tiny-clip` and saved."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(7)
    path = folder / "tiny.pt"
    torch.save(open_clip.create_model("tiny-clip").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def resnet_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-10 of random weights, classifier included."""
    import timm
    import torch

    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("timm") / "resnet10t.pt"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), path)
    return path
