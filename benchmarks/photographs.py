"""Pictures for measurements: made here, equal on every machine, and as many different files as a run needs."""

import struct

import cv2
import numpy as np
import simplejpeg

_START_OF_IMAGE = b"\xff\xd8"
_COMMENT_BYTES = 16


def photograph(width: int = 1600, height: int = 1200, wanted_bytes: int = 500_000, seed: int = 0) -> bytes:
    """A JPEG with the spectrum of a photograph, at the quality whose file size is nearest to `wanted_bytes`."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 10):
        noise = random.normal(size=(height >> (9 - octave), width >> (9 - octave), 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 0.72**octave
    picture = ((total - total.mean()) / total.std() * 50 + 128).clip(0, 255).astype(np.uint8)
    return _nearest(picture, wanted_bytes)


def _nearest(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], wanted_bytes: int) -> bytes:
    low, high = 20, 95
    while low < high:
        middle = (low + high + 1) // 2
        if len(_jpeg(picture, middle)) <= wanted_bytes:
            low = middle
        else:
            high = middle - 1
    return _jpeg(picture, low)


def _jpeg(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], quality: int) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(picture, quality=quality, colorsubsampling="420")
    return data


def mosaic(seed: int, edge: int = 96) -> bytes:
    """A small JPEG of 6x6 coloured fields: different seeds look different to an encoder."""
    fields = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = cv2.resize(fields, (edge, edge), interpolation=cv2.INTER_NEAREST)
    return _jpeg(np.ascontiguousarray(picture), 85)


def split_at_comment(jpeg: bytes) -> tuple[bytes, bytes]:
    """What stands before and after a comment of 16 bytes: joined around any such comment they are the same picture."""
    if not jpeg.startswith(_START_OF_IMAGE):
        raise ValueError("not a JPEG: it must start with ff d8")
    segment = b"\xff\xfe" + struct.pack(">H", _COMMENT_BYTES + 2)
    return jpeg[:2] + segment, jpeg[2:]


def distinct(jpeg: bytes, number: int) -> bytes:
    """The same picture as another file: its comment holds `number`, so no cache by content knows it."""
    before, after = split_at_comment(jpeg)
    return before + f"{number:016d}".encode() + after
