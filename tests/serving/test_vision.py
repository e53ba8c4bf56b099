"""Vectors of pictures: remembered by content, decoded while they are hashed, and alone only when they are."""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodePool, InputSpec
from visualindex.spec import LimitsSpec
from visualindex_serving.messages import Float32, UInt8
from visualindex_serving.vision import Vision

from .pictures import picture


class Means:
    """An encoder whose vector is the picture's mean colour; it can be held up."""

    def __init__(self) -> None:
        self.alone: list[bool] = []
        self.go = asyncio.Event()
        self.go.set()

    async def encode(self, pixels: UInt8, deadline: float, *, alone: bool) -> Float32:
        self.alone.append(alone)
        await self.go.wait()
        mean: Float32 = pixels.mean(axis=(0, 1), dtype=np.float32)
        return mean


@pytest.fixture
def means() -> Means:
    return Means()


@pytest.fixture
async def vision(means: Means) -> AsyncIterator[Vision]:
    pool = DecodePool(2, LimitsSpec())
    await pool.start()
    yield Vision(
        pool, InputSpec(32, 32, resize="squash", interpolation="bilinear"), means.encode, remembered=2
    )
    await pool.close()


def soon() -> float:
    return time.time() + 20


async def test_a_file_that_comes_again_is_not_decoded_again(vision: Vision, means: Means) -> None:
    first = await vision.vector(picture(1), None, soon())
    again = await vision.vector(picture(1), None, soon())
    assert np.array_equal(first.vector, again.vector)
    assert (first.decoded is None, again.decoded is None) == (False, True)
    await vision.vector(picture(1), (0.0, 0.0, 0.5, 0.5), soon())
    assert len(means.alone) == 2


async def test_files_of_equal_length_and_ends_are_told_apart(vision: Vision, means: Means) -> None:
    """PNGs without compression: equal but for pixels in the middle."""
    white, black = (uncompressed(colour) for colour in (255, 0))
    assert (len(white), white[:256], white[-256:]) == (len(black), black[:256], black[-256:])
    bright = await vision.vector(white, None, soon())
    dark = await vision.vector(black, None, soon())
    assert bright.vector.min() > dark.vector.max()
    assert np.array_equal((await vision.vector(white, None, soon())).vector, bright.vector)


def uncompressed(middle: int) -> bytes:
    """A BMP of grey 64x64 pixels with other ones in its middle."""
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[8:56, 8:56] = middle
    header = b"BM" + (54 + pixels.size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = (40).to_bytes(4, "little") + (64).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
    return header + info + pixels.tobytes()


async def test_the_files_not_asked_for_longest_are_forgotten(vision: Vision, means: Means) -> None:
    for seed in (1, 2, 1, 3, 1, 2):
        await vision.vector(picture(seed), None, soon())
    assert len(means.alone) == 4


async def test_a_picture_beside_others_is_not_alone(vision: Vision, means: Means) -> None:
    means.go.clear()
    one = asyncio.create_task(vision.vector(picture(1), None, soon()))
    while not means.alone:  # noqa: ASYNC110 - the encoder tells nobody
        await asyncio.sleep(0.005)
    two = asyncio.create_task(vision.vector(picture(2), None, soon()))
    while len(means.alone) < 2:  # noqa: ASYNC110 - the encoder tells nobody
        await asyncio.sleep(0.005)
    means.go.set()
    await asyncio.gather(one, two)
    await vision.vector(picture(3), None, soon())
    assert means.alone == [True, False, True]


async def test_a_file_that_is_no_picture_is_refused_and_counts_no_longer(
    vision: Vision, means: Means
) -> None:
    with pytest.raises(ProblemError) as caught:
        await vision.vector(b"no picture at all", None, soon())
    assert caught.value.type is ProblemType.UNSUPPORTED_IMAGE
    await vision.vector(picture(1), None, soon())
    assert means.alone == [True]
