"""Vectors and patches of decoded pictures, in the batches that the encoder likes best."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.catalog import ImageWrite
from visualindex.encoders import Encoder
from visualindex.errors import ProblemError
from visualindex.imaging import Decoded
from visualindex.ingesting.preparing import Made, Pending
from visualindex.ingesting.writes import write_of
from visualindex.rerank.patches import PatchProjection

_Encoded = tuple[NDArray[np.float32], Mapping[str, bytes]]


@dataclass(frozen=True)
class Encoding:
    """An encoder and what packs its patches; `packing` None where the index keeps none."""

    encoder: Encoder
    packing: PatchProjection | None
    batch: int

    @property
    def made(self) -> Made:
        """What is made with it."""
        features = None if self.packing is None else self.packing.fingerprint
        return Made(self.encoder.input, self.encoder.fingerprint, features)

    def encode(self, pictures: Sequence[Decoded]) -> list[_Encoded]:
        """Vector, float32[d], and packed patches of each. Blocks."""
        pixels = np.stack([_pixels(one) for one in pictures])
        encoded = self.encoder.encode(pixels, patches=self.packing is not None)
        if self.packing is None or encoded.patches is None:
            return [(vector, {}) for vector in encoded.vectors]
        packed = self.packing.pack(encoded.patches)
        features = self.packing.fingerprint
        return [(vector, {features: packed.row_bytes(row)}) for row, vector in enumerate(encoded.vectors)]


async def writes_of(
    encodings: Sequence[Encoding], pending: Sequence[Pending]
) -> list[ImageWrite | ProblemError]:
    """The rows of pictures, or why there is none, in their order, with vectors of every encoder.

    Equal pictures are encoded once.
    """
    distinct = list({one.digest: one for one in pending}.values())
    made: dict[bytes, list[_Encoded]] = {one.digest: [] for one in distinct}
    for place, encoding in enumerate(encodings):
        for start in range(0, len(distinct), encoding.batch):
            some = distinct[start : start + encoding.batch]
            encoded = await asyncio.to_thread(encoding.encode, [one.decoded[place] for one in some])
            for one, each in zip(some, encoded, strict=True):
                made[one.digest].append(each)
    names = [encoding.encoder.fingerprint for encoding in encodings]
    return [_write(one, names, made[one.digest]) for one in pending]


def _write(one: Pending, names: Sequence[str], made: Sequence[_Encoded]) -> ImageWrite | ProblemError:
    vectors = {name: vector for name, (vector, _) in zip(names, made, strict=True)}
    patches = {name: packed for _, packs in made for name, packed in packs.items()}
    of = one.image_id, one.fields, one.digest, one.size_bytes, one.decoded[0]
    try:
        return write_of(*of, vectors, patches, beside=one.beside)
    except ProblemError as problem:
        return problem


def _pixels(decoded: Decoded) -> NDArray[np.uint8]:
    assert decoded.pixels is not None  # noqa: S101 - an input was asked for
    return decoded.pixels
