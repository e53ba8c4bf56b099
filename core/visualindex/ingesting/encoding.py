"""Vectors and patches of decoded pictures, in the batches that the encoder likes best."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.catalog import ImageWrite
from visualindex.encoders import Encoder
from visualindex.errors import ProblemError
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

    async def writes_of(self, pending: Sequence[Pending]) -> list[ImageWrite | ProblemError]:
        """The rows of pictures, or why there is none, in their order; equal pictures are encoded once."""
        by_digest = {one.digest: one for one in pending}
        distinct = list(by_digest.values())
        encoded: dict[bytes, _Encoded] = {}
        for start in range(0, len(distinct), self.batch):
            some = distinct[start : start + self.batch]
            made = await asyncio.to_thread(self._encode, some)
            encoded.update(zip([one.digest for one in some], made, strict=True))
        return [self._write(one, *encoded[one.digest]) for one in pending]

    def _encode(self, pending: Sequence[Pending]) -> list[_Encoded]:
        pixels = np.stack([_pixels(one) for one in pending])
        encoded = self.encoder.encode(pixels, patches=self.packing is not None)
        if self.packing is None or encoded.patches is None:
            return [(vector, {}) for vector in encoded.vectors]
        packed = self.packing.pack(encoded.patches)
        features = self.packing.fingerprint
        return [(vector, {features: packed.row_bytes(row)}) for row, vector in enumerate(encoded.vectors)]

    def _write(
        self, one: Pending, vector: NDArray[np.float32], patches: Mapping[str, bytes]
    ) -> ImageWrite | ProblemError:
        image, fingerprint = (one.image_id, one.fields, one.digest, one.size_bytes), self.encoder.fingerprint
        try:
            return write_of(*image, one.decoded, fingerprint, vector, patches)
        except ProblemError as problem:
            return problem


def _pixels(one: Pending) -> NDArray[np.uint8]:
    assert one.decoded.pixels is not None  # noqa: S101 - an input was asked for
    return one.decoded.pixels
