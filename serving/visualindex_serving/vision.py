"""From image bytes to a vector: decode in a worker process, encode here or in the encoder deployment."""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from visualindex.imaging import Decoded, DecodeJob, DecodePool, InputSpec
from visualindex_serving.hashing import sha256
from visualindex_serving.messages import Float32, UInt8

BoxTuple = tuple[float, float, float, float]

_Look = tuple[int, bytes, bytes, BoxTuple | None]
"""What tells most files apart at a glance: length, both ends, and the region that is asked for."""

_ENDS = 256  # bytes
_DECODER_BEGINS_S = 0.001


class EncodeOne(Protocol):
    """Encodes one prepared image: uint8[h, w, 3] → float32[d], L2-normalised.

    `alone` says that no other picture of this process is under way, so that this one may take all threads.
    """

    async def __call__(self, pixels: UInt8, deadline: float, *, alone: bool) -> Float32: ...


class EncodeWithPatches(Protocol):
    """As `EncodeOne`, with the packed patches of the same forward pass (`Packed.row_bytes`), or None from an encoder that
    does not know yet that it should make some."""

    async def __call__(
        self, pixels: UInt8, deadline: float, *, alone: bool
    ) -> tuple[Float32, bytes | None]: ...


@dataclass(frozen=True)
class Seen:
    """A picture after decoding and encoding, with what each step took in milliseconds.

    `patches` are packed, None where they were not asked for or this index keeps none.
    """

    vector: Float32
    decoded: Decoded | None
    decode_ms: float
    encode_ms: float
    patches: bytes | None = None


class Vision:
    """Vectors of pictures for one index. Vectors of recent pictures are remembered by content."""

    def __init__(
        self,
        pool: DecodePool,
        input_spec: InputSpec,
        encode: EncodeOne,
        *,
        encode_with_patches: EncodeWithPatches | None = None,
        remembered: int = 2048,
    ) -> None:
        self._pool = pool
        self._input = input_spec
        self._encode = encode
        self._encode_with_patches = encode_with_patches
        self._remembered = remembered
        self._vectors: OrderedDict[_Look, tuple[bytes, Float32, bytes | None]] = OrderedDict()
        self._under_way = 0

    async def vector(
        self, data: bytes, box: BoxTuple | None, deadline: float, *, patches: bool = False
    ) -> Seen:
        """The vector of a picture or of its region, with `patches` also those of an index that keeps them.

        Raises ProblemError for bad images and passed deadlines.
        """
        patches = patches and self._encode_with_patches is not None
        look = (len(data), data[:_ENDS], data[-_ENDS:], box)
        known = self._vectors.get(look)
        if known is None:  # certainly new, so it is decoded at once and hashed meanwhile
            seen, digest = await asyncio.gather(
                self.see(data, box=box, deadline=deadline, patches=patches), _hashed_soon(data)
            )
        else:
            digest = await sha256(data)
            if digest == known[0] and (known[2] is not None or not patches):
                self._vectors.move_to_end(look)
                return Seen(known[1], None, 0.0, 0.0, known[2])
            seen = await self.see(data, box=box, deadline=deadline, patches=patches)
        self._remember(look, digest, seen)
        return seen

    async def see(
        self,
        data: bytes,
        *,
        box: BoxTuple | None,
        deadline: float,
        colours: bool = False,
        patches: bool = True,
    ) -> Seen:
        """Decode, with the dominant colours if asked for, then encode, with the patches where this index keeps them.

        Raises as `vector` does.
        """
        start = time.perf_counter()
        self._under_way += 1
        try:
            job = DecodeJob(data, self._input, box, colours=colours)
            decoded = await self._pool.decode(job, deadline=deadline)
            decoded_at = time.perf_counter()
            assert decoded.pixels is not None  # noqa: S101 - an input was asked for
            alone = self._under_way == 1
            packed: bytes | None = None
            if patches and self._encode_with_patches is not None:
                vector, packed = await self._encode_with_patches(decoded.pixels, deadline, alone=alone)
            else:
                vector = await self._encode(decoded.pixels, deadline, alone=alone)
        finally:
            self._under_way -= 1
        done = time.perf_counter()
        return Seen(vector, decoded, (decoded_at - start) * 1000, (done - decoded_at) * 1000, packed)

    def _remember(self, look: _Look, digest: bytes, seen: Seen) -> None:
        self._vectors[look] = digest, seen.vector, seen.patches
        self._vectors.move_to_end(look)
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)


async def _hashed_soon(data: bytes) -> bytes:
    """The digest, made while a worker process decodes and this one would wait."""
    await asyncio.sleep(_DECODER_BEGINS_S)
    return await sha256(data)


def normalised(vector: list[float]) -> Float32:
    """A caller's vector as L2-normalised float32[d]. Raises ValueError for a zero or non-finite one."""
    array = np.asarray(vector, dtype=np.float64)
    with np.errstate(over="ignore"):
        norm = math.sqrt(np.dot(array, array))
    if not math.isfinite(norm) or norm == 0:
        raise ValueError("the vector must be finite and not zero")
    return (array / norm).astype(np.float32)
