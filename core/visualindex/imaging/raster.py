"""Decoding to an upright RGB picture that is no larger than needed: JPEG at a fraction of its size, the rest whole."""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from visualindex.errors import ProblemError
from visualindex.imaging import geometry
from visualindex.imaging.headers import Buffer, Format, ImageInfo, invalid, unsupported
from visualindex.imaging.jobs import too_large

# The plugin classes are called directly: `Image.open` would try formats we do not take, and turns a JPEG with several
# pictures (MPO) into another class.
_PLUGINS: dict[Format, Callable[[io.BytesIO], Image.Image]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
}

# libjpeg warnings after which the picture is still whole: padding of a few bytes, or a colour code it does not know.
# Every other warning, and more padding than this, means that pixels are missing or wrong.
_HARMLESS = re.compile(r"\b[1-5]?\d extraneous bytes before marker|Unknown Adobe color transform code")

# How Pillow says that a file is well-formed but of a kind it cannot read.
_VARIANT = re.compile("unsupported|not supported|unknown pixel mode", re.IGNORECASE)

_PHOTOMETRIC_WHITE_IS_ZERO = 0


def load(data: Buffer, info: ImageInfo, scale: float) -> Image.Image:
    """The first frame as an upright L or RGB image, at least `scale` times its stored size.

    Raises ProblemError INVALID_IMAGE (damaged or cut short), UNSUPPORTED_IMAGE or IMAGE_TOO_LARGE (memory).
    """
    try:
        if info.format == "jpeg":
            return geometry.upright(_jpeg(data, info, scale), info.orientation)
        image = _flat(_shrunk(_eight_bit(_opened(data, info)), scale))
        # Pillow's TIFF reader has turned the picture already.
        return image if info.format == "tiff" else geometry.upright(image, info.orientation)
    except ProblemError:
        raise
    except MemoryError as error:
        raise too_large("more pixels than fit in a decoder's memory", "what its memory holds") from error
    # Decoders raise whatever their parsing meets (SyntaxError, KeyError, struct.error, ...) on damaged bytes.
    except Exception as error:
        why = str(error) or type(error).__name__
        # libjpeg says so of damaged markers; the variants of JPEG that it cannot read are known from the header.
        if info.format != "jpeg" and _VARIANT.search(why):
            raise unsupported(f"This variant of {info.format.upper()} ({why})") from error
        raise invalid(why) from error


def _jpeg(data: Buffer, info: ImageInfo, scale: float) -> Image.Image:
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    _check_size((width, height), info)
    if colorspace in ("CMYK", "YCCK"):
        return _flat(_opened(data, info, scale))
    try:
        least = {"min_height": _at_least(height, scale), "min_width": _at_least(width, scale)}
        if colorspace == "GRAY":
            return Image.fromarray(simplejpeg.decode_jpeg(data, "GRAY", **least)[:, :, 0])
        return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", **least))
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
        return _flat(_opened(data, info, scale))


def _at_least(edge: int, scale: float) -> int:
    return max(1, int(edge * scale))


def _opened(data: Buffer, info: ImageInfo, scale: float = 1.0) -> Image.Image:
    image = _PLUGINS[info.format](io.BytesIO(data))
    _check_size(image.size, info)
    if scale < 1.0:
        image.draft(None, (_at_least(info.width, scale), _at_least(info.height, scale)))
    image.load()
    return image


def _check_size(size: tuple[int, int], info: ImageInfo) -> None:
    """A header that two readers understand differently could smuggle a large picture past the limits."""
    if size not in {(info.width, info.height), info.upright_size}:
        stated = f"{info.width}x{info.height}"
        raise invalid(f"its header says {stated} pixels but its contents {size[0]}x{size[1]}")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Samples of at most 8 bits; of 16-bit ones the high byte is kept, as libpng does."""
    if image.mode in ("I", "F"):
        raise unsupported("An image with signed, floating-point or 32-bit samples")
    if not image.mode.startswith("I;16"):
        return image
    samples = (np.asarray(image) >> 8).astype(np.uint8)
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _PHOTOMETRIC_WHITE_IS_ZERO:
        samples = 255 - samples
    return Image.fromarray(samples)


def _shrunk(image: Image.Image, scale: float) -> Image.Image:
    """Averaged down by a whole factor to no less than three times `scale`, so that what follows costs little."""
    if image.mode == "1":
        image = image.convert("L")
    elif _transparent(image):
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    factor = int(1 / (3 * scale))
    return image.reduce(factor) if factor > 1 else image


def _transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")


def _flat(image: Image.Image) -> Image.Image:
    """Composited on white, as a page would show it."""
    if not _transparent(image):
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
