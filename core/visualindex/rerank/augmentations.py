"""The ways a picture is changed between one copy and the next: what a search for a known picture must see through.

Each takes and gives uint8[height, width, 3] RGB and draws its strength from the generator it is given.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Augmentation = Callable[[Pixels, np.random.Generator], Pixels]

_JPEG_QUALITY = 30


def _crop(least: float, most: float) -> Augmentation:
    """Keeps that share of the area, at the picture's own aspect ratio, anywhere."""

    def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        side = float(np.sqrt(rng.uniform(least, most)))
        rows, columns = max(1, round(height * side)), max(1, round(width * side))
        top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
        return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])

    return crop


def _rotated(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """15 degrees either way; the corners repeat the edge."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.choice((-15, 15))), 1.0)
    turned = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def _quarter_turn(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(np.rot90(pixels, int(rng.choice((1, 3)))))


def _coloured(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation by 0.7 to 1.3, hue by up to 10 degrees."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-5, 5)) % 180  # OpenCV counts hue in steps of two degrees
    hsv[..., 1] *= rng.uniform(0.7, 1.3)
    bounded = np.clip(hsv, 0, 255).astype(np.uint8)
    rgb = cv2.cvtColor(bounded, cv2.COLOR_HSV2RGB).astype(np.float32)
    lit = (rgb - 128) * rng.uniform(0.7, 1.3) + 128 * rng.uniform(0.7, 1.3)
    return np.asarray(np.clip(lit, 0, 255), np.uint8)


def _compressed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Through JPEG of quality 30."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None  # noqa: S101 (it was encoded a line above)
    return np.asarray(decoded, np.uint8)


def _bordered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """As a screenshot shows it: bars of one colour around it, up to a fifth of each side."""
    height, width = pixels.shape[:2]
    top, bottom = (int(height * rng.uniform(0.05, 0.2)) for _ in range(2))
    left, right = (int(width * rng.uniform(0.05, 0.2)) for _ in range(2))
    colour = [int(c) for c in rng.integers(0, 256, 3)]
    bordered = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)
    return np.asarray(bordered, np.uint8)


def _combined(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A crop, turned, recoloured and compressed."""
    for step in (AUGMENTATIONS["crop"], _rotated, _coloured, _compressed):
        pixels = step(pixels, rng)
    return pixels


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "crop": _crop(0.6, 0.9),
    "tight crop": _crop(0.3, 0.45),
    "rotation": _rotated,
    "quarter turn": _quarter_turn,
    "colour": _coloured,
    "JPEG": _compressed,
    "border": _bordered,
    "combined": _combined,
}
"""By name, the mild and the hard."""
