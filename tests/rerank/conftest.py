"""The bundled encoder and pictures with edges, for what reranking makes of them."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import Encoder, load_encoder
from visualindex.rerank.patches import PatchProjection, shipped_projection
from visualindex.spec.models import EncoderSpec

Draw = Callable[..., npt.NDArray[np.uint8]]


@pytest.fixture(scope="session")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    encoder = load_encoder(EncoderSpec(), cache_dir=tmp_path_factory.mktemp("encoder-cache"), threads=2)
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def projection(lite0: Encoder) -> PatchProjection:
    found = shipped_projection(lite0.backbone)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Makes pictures with edges, colours and smooth areas, unlike noise: uint8[count, size, size, 3]."""
    return lambda count, size=224, seed=0: np.stack(
        [_drawing(np.random.default_rng((seed, number)), size) for number in range(count)]
    )


def _drawing(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    image = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(int(rng.integers(6, 14))):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        a, b = (tuple(int(v) for v in rng.integers(0, size, 2)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.circle(image, a, int(rng.integers(size // 20 + 1, size // 4)), colour, -1)
        else:
            cv2.rectangle(image, a, b, colour, -1)
    return cv2.GaussianBlur(image, (3, 3), 0).astype(np.uint8)
