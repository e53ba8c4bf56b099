"""From image bytes to a vector: decode in a worker process, encode here or in the encoder deployment."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from visualindex.imaging import Decoded, DecodeJob, DecodePool, InputSpec
from visualindex_serving.hashing import sha256
from visualindex_serving.messages import Float32, UInt8

BoxTuple = tuple[float, float, float, float]


class EncodeOne(Protocol):
    """Encodes one prepared image: uint8[h, w, 3] → float32[d], L2-normalised."""

    async def __call__(self, pixels: UInt8, deadline: float) -> Float32: ...


@dataclass(frozen=True)
class Seen:
    """A picture after decoding and encoding, with what each step took in milliseconds."""

    vector: Float32
    decoded: Decoded | None
    decode_ms: float
    encode_ms: float


class Vision:
    """Vectors of pictures for one index. Vectors of recent pictures are remembered by content."""

    def __init__(
        self, pool: DecodePool, input_spec: InputSpec, encode: EncodeOne, *, remembered: int = 2048
    ) -> None:
        self._pool = pool
        self._input = input_spec
        self._encode = encode
        self._remembered = remembered
        self._vectors: OrderedDict[bytes, Float32] = OrderedDict()

    async def vector(self, data: bytes, box: BoxTuple | None, deadline: float) -> Seen:
        """The vector of a picture or of its region. Raises ProblemError for bad images and passed deadlines."""
        key = await sha256(data, repr(box).encode() if box else b"")
        known = self._vectors.get(key)
        if known is not None:
            self._vectors.move_to_end(key)
            return Seen(known, None, 0.0, 0.0)
        seen = await self.see(data, box=box, deadline=deadline)
        self._remember(key, seen.vector)
        return seen

    async def see(self, data: bytes, *, box: BoxTuple | None, deadline: float) -> Seen:
        """Decode, then encode. Raises as `vector` does."""
        start = time.perf_counter()
        decoded = await self._pool.decode(DecodeJob(data, self._input, box), deadline=deadline)
        decoded_at = time.perf_counter()
        assert decoded.pixels is not None  # noqa: S101 - an input was asked for
        vector = await self._encode(decoded.pixels, deadline)
        done = time.perf_counter()
        return Seen(vector, decoded, (decoded_at - start) * 1000, (done - decoded_at) * 1000)

    def _remember(self, key: bytes, vector: Float32) -> None:
        self._vectors[key] = vector
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)


def normalised(vector: list[float]) -> Float32:
    """A caller's vector as L2-normalised float32[d]. Raises ValueError for a zero or non-finite one."""
    array = np.asarray(vector, dtype=np.float64)
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(array))
    if not np.isfinite(norm) or norm == 0:
        raise ValueError("the vector must be finite and not zero")
    return (array / norm).astype(np.float32)
