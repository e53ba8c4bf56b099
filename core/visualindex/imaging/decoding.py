"""One decode from bytes to everything a job asks for. Runs in a worker process; nothing here is safe in a server."""

import io
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visualindex.colours import EDGE, Colour, dominant_colours
from visualindex.imaging import geometry, raster
from visualindex.imaging.headers import ImageInfo, probe
from visualindex.imaging.inputs import InputSpec
from visualindex.imaging.jobs import Bounds, Box, Decoded, DecodeJob

THUMBNAIL_QUALITY = 80
# Measured on 640x480: method 4 takes three times as long for files 6 % smaller.
THUMBNAIL_METHOD = 1

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_REDUCING_GAP = 3.0


def decode(job: DecodeJob, bounds: Bounds) -> Decoded:
    """Decode in this process. Raises ProblemError as `raster.load`, and IMAGE_TOO_LARGE from the header alone."""
    # Not the process's clock: under a CPU limit, which workers have, that one moves by whole scheduler ticks.
    started = time.thread_time()
    bounds.check_bytes(len(job.data))
    info = probe(job.data)
    bounds.check_info(info)
    image = raster.load(job.data, info, geometry.needed_scale(job, info))
    pixels = None if job.input is None else _pixels(image, job.input, job.box)
    thumbnails = _thumbnails(image, info, job.thumbnails)
    colours = _colours(image, info) if job.colours else ()
    return Decoded(pixels, info, thumbnails, colours, (time.thread_time() - started) * 1000)


def _pixels(image: Image.Image, wanted: InputSpec, box: Box | None) -> NDArray[np.uint8]:
    resized = image.resize(
        (wanted.width, wanted.height),
        _RESAMPLING[wanted.interpolation],
        box=geometry.source_rect(*image.size, box, wanted),
        reducing_gap=_REDUCING_GAP,
    )
    return np.asarray(resized.convert("RGB"))


def _colours(image: Image.Image, info: ImageInfo) -> tuple[Colour, ...]:
    # The box filter makes no colour that is not there, as the overshoot of a sharper one would.
    small = image.resize(
        geometry.thumbnail_size(info, EDGE), Image.Resampling.BOX, reducing_gap=_REDUCING_GAP
    )
    return dominant_colours(np.asarray(small.convert("RGB")))


def _thumbnails(image: Image.Image, info: ImageInfo, edges: tuple[int, ...]) -> dict[int, bytes]:
    """WebP by longest edge, each scaled from the one above it."""
    encoded: dict[int, bytes] = {}
    for edge in sorted(set(edges), reverse=True):
        size = geometry.thumbnail_size(info, edge)
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
        encoded[edge] = _webp(image)
    return encoded


def _webp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    Image.Image.save(image.convert("RGB"), out, "WEBP", quality=THUMBNAIL_QUALITY, method=THUMBNAIL_METHOD)
    return out.getvalue()
