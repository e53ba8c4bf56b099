"""The first half of a chunk: originals fetched and decoded, side by side. What cannot be had is set aside with a reason."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.catalog import Refused
from visualindex.colours import pack
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.threads import all_of
from visualindex.imaging import Decoded, DecodeJob, DecodePool, InputSpec
from visualindex.objectstore import original_key
from visualindex.reindexing.chunks import Account, Todo
from visualindex.reindexing.ledger import Ledger

_THE_IMAGES_FAULT = frozenset(
    {
        ProblemType.INVALID_IMAGE,
        ProblemType.UNSUPPORTED_IMAGE,
        ProblemType.IMAGE_TOO_LARGE,
        ProblemType.DECODE_TIMEOUT,
        ProblemType.NOT_FOUND,
    }
)
_TIMEOUTS = 2
"""Times an image must take too long: a busy machine is no fault of the image."""
_AHEAD = 4
"""Originals on their way for each decoding process."""


@dataclass(frozen=True)
class Prepared:
    """A chunk before it is encoded.

    `images` could be decoded, `colours` are theirs (packed; None where none were wanted), and `pixels` uint8[m, height,
    width, 3] are those of the m images that are to be encoded, in their order.
    """

    images: Sequence[Todo]
    colours: Sequence[bytes | None]
    pixels: NDArray[np.uint8]
    refused: Sequence[Refused]
    account: Account


@dataclass(frozen=True)
class _Opened:
    size: int
    colours: bytes | None
    cpu_s: float


class _Again:
    """Counts the reads of one chunk that were repeated: chunks side by side share the ledger."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _: BaseException | None) -> None:
        self.count += 1


class _Spent:
    """CPU seconds of the thread in which chunks are prepared, side by side: each second is one chunk's alone."""

    def __init__(self) -> None:
        self._at_work = 0
        self._told = 0.0

    def begin(self) -> None:
        """A chunk begins."""
        if not self._at_work:
            self._told = time.thread_time()
        self._at_work += 1

    def end(self) -> float:
        """A chunk ends: it is told what was spent since another was, or since it began alone."""
        self._at_work -= 1
        before, self._told = self._told, time.thread_time()
        return self._told - before


class Preparer:
    """Fetches and decodes for one process, in one thread."""

    def __init__(self, ledger: Ledger, index: str, pool: DecodePool, workers: int, input_: InputSpec) -> None:
        self._ledger = ledger
        self._index = index
        self._pool = pool
        self._input = input_
        self._at_once = asyncio.Semaphore(workers * _AHEAD)
        self._spent = _Spent()

    async def prepare(self, images: Sequence[Todo]) -> Prepared:
        """Fetch and decode the images of a chunk. Raises ProblemError when the object store stays away."""
        again = _Again()
        pixels = self._room(sum(image.encode for image in images))
        rows = iter(pixels)
        work = [self._one(image, next(rows) if image.encode else None, again) for image in images]
        self._spent.begin()
        try:
            outcomes = list(zip(images, await all_of(work), strict=True))
        finally:
            cpu_s = self._spent.end()
        opened = [(image, one) for image, one in outcomes if isinstance(one, _Opened)]
        account = Account(
            images=len(images),
            encoded=sum(image.encode for image, _ in opened),
            bytes=sum(one.size for _, one in opened),
            cpu_s=cpu_s + sum(one.cpu_s for _, one in opened),
            retries=again.count,
        )
        return Prepared(
            images=[image for image, _ in opened],
            colours=[one.colours for _, one in opened],
            pixels=_filled(pixels, outcomes),
            refused=[one for _, one in outcomes if isinstance(one, Refused)],
            account=account,
        )

    def _room(self, images: int) -> NDArray[np.uint8]:
        return np.empty((images, self._input.height, self._input.width, 3), np.uint8)

    async def _one(self, image: Todo, row: NDArray[np.uint8] | None, again: "_Again") -> _Opened | Refused:
        """Opens an image; its pixels are put into `row` at once, so that they are in memory once."""
        async with self._at_once:
            try:
                data = await self._ledger.original(original_key(self._index, image.digest), again)
                decoded = await self._decode(image, data)
                if row is not None and decoded.pixels is not None:
                    row[:] = decoded.pixels
                colours = pack(decoded.colours) if image.colours else None
                return _Opened(len(data), colours, decoded.cpu_ms / 1000)
            except ProblemError as problem:
                if problem.type not in _THE_IMAGES_FAULT:
                    raise
                slug = problem.type.value.slug
                return Refused(image.image_id, image.digest, slug, problem.detail.replace("\0", ""))

    async def _decode(self, image: Todo, data: bytes) -> Decoded:
        job = DecodeJob(data, self._input if image.encode else None, colours=image.colours)
        for attempt in range(1, _TIMEOUTS + 1):
            try:
                return await self._pool.decode(job)
            except ProblemError as problem:
                if problem.type is not ProblemType.DECODE_TIMEOUT or attempt == _TIMEOUTS:
                    raise
        raise AssertionError("unreachable")


def _filled(
    pixels: NDArray[np.uint8], outcomes: Sequence[tuple[Todo, _Opened | Refused]]
) -> NDArray[np.uint8]:
    """The rows of those that could be decoded."""
    there = [isinstance(one, _Opened) for image, one in outcomes if image.encode]
    return pixels if all(there) else pixels[there]
