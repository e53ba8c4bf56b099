"""Pictures whose every part is recognisable, in every format and oddity a caller may send."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visualindex.imaging import InputSpec
from visualindex.imaging.jobs import Bounds

Pixels = NDArray[np.uint8]

SQUASH = InputSpec(64, 64, "squash", "bicubic")
BOUNDS = Bounds(image_bytes=32 * 1024**2, image_pixels=64_000_000, image_frames=256)

CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
"""Red, green, blue and yellow: top left, top right, bottom left, bottom right of `quadrants`."""


def quadrants(width: int = 120, height: int = 80) -> Image.Image:
    """Four plain quarters, so that a turned or mirrored picture shows."""
    picture = Image.new("RGB", (width, height))
    half = (width // 2, height // 2)
    for number, colour in enumerate(CORNERS):
        picture.paste(Image.new("RGB", half, colour), (number % 2 * half[0], number // 2 * half[1]))
    return picture


def natural(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise at every scale, with the falling spectrum of a photograph."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 10):
        grid = (max(2, width >> (9 - octave)), max(2, height >> (9 - octave)))
        for channel in range(3):
            noise = Image.fromarray(random.normal(size=grid[::-1]).astype(np.float32))
            total[:, :, channel] += (
                np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) * 0.72**octave
            )
    scaled = (total - total.mean()) / total.std() * 50 + 128
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of Pillow's format `kind`."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def corners(pixels: Pixels) -> list[tuple[int, ...]]:
    """The colour in the middle of each quarter: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    spots = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [tuple(int(sample) for sample in pixels[spot]) for spot in spots]


def close(left: Any, right: Any, tolerance: int) -> bool:
    """Whether all samples differ by at most `tolerance` levels."""
    return bool(np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int)).max() <= tolerance)


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claiming(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG header of any size, the given chunks, and no honest pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(chunks)
        + pixels
        + png_chunk(b"IEND", b"")
    )
