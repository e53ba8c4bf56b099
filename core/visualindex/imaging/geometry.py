"""Where pixels come from: the scale a decode must reach, the cut an encoder sees, the turn that makes a picture upright."""

from typing import TypeAlias

from PIL import Image

from visualindex.colours import EDGE
from visualindex.imaging.headers import ImageInfo
from visualindex.imaging.inputs import InputSpec
from visualindex.imaging.jobs import Box, DecodeJob

Rect: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def needed_scale(job: DecodeJob, info: ImageInfo) -> float:
    """The smallest decoding scale (above 0, at most 1) from which nothing the job asks for must be enlarged.

    A job that asks for nothing still has its picture decoded, to whatever size is cheapest.
    """
    width, height = info.upright_size
    edge = max((*job.thumbnails, EDGE if job.colours else 1))
    scale = edge / max(width, height)
    if job.input is not None:
        left, top, right, bottom = source_rect(width, height, job.box, job.input)
        scale = max(scale, job.input.width / (right - left), job.input.height / (bottom - top))
    return min(1.0, scale)


def source_rect(width: float, height: float, box: Box | None, wanted: InputSpec) -> Rect:
    """The part of an upright `width` x `height` picture that becomes the encoder's input."""
    left, top, right, bottom = _box_rect(width, height, box)
    if wanted.resize == "squash":
        return left, top, right, bottom
    wide, high = right - left, bottom - top
    keep_wide = min(wide, high * wanted.width / wanted.height)
    keep_high = min(high, wide * wanted.height / wanted.width)
    left, top = left + (wide - keep_wide) / 2, top + (high - keep_high) / 2
    return left, top, left + keep_wide, top + keep_high


def thumbnail_size(info: ImageInfo, longest: int) -> tuple[int, int]:
    """Width and height of a thumbnail whose longest edge is at most `longest`; never larger than the picture."""
    width, height = info.upright_size
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned and mirrored as its EXIF orientation asks."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _box_rect(width: float, height: float, box: Box | None) -> Rect:
    if box is None:
        return 0.0, 0.0, width, height
    x, y, wide, high = box
    # A box thinner than a pixel still shows that pixel.
    left, top = min(x * width, width - 1), min(y * height, height - 1)
    right, bottom = (
        min(width, max((x + wide) * width, left + 1)),
        min(height, max((y + high) * height, top + 1)),
    )
    return left, top, right, bottom
