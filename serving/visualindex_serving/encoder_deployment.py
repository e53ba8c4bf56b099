"""The Serve deployment of an encoder, where it does not live in the gateway.

A module of its own: a shard's process would spend a second importing what only encoders need.
"""

import asyncio
from typing import Any

from visualindex.encoders.batching import DeadlineBatcher
from visualindex.rerank.patches import PatchProjection
from visualindex_serving.config import Runtime, read_specs
from visualindex_serving.deadlines import monotonic
from visualindex_serving.encoding import AboutEncoder, batcher, open_encoder, patch_projection
from visualindex_serving.messages import Float32, UInt8


class EncoderReplica:
    """An encoder with its batcher, as a deployment of its own."""

    def __init__(self, document: dict[str, Any]) -> None:
        (self._resource,) = read_specs([document])
        self._starting = asyncio.Lock()
        self._front: DeadlineBatcher | None = None
        self._about: AboutEncoder | None = None
        self._projection: PatchProjection | None = None

    async def check_health(self) -> None:
        """The first call loads the model."""
        await self._opened()

    async def about(self) -> AboutEncoder:
        """Fingerprint, dimension and input of the model."""
        await self._opened()
        assert self._about is not None  # noqa: S101 - set with the front
        return self._about

    async def encode(self, pixels: UInt8, deadline: float) -> Float32:
        """One prepared image uint8[h, w, 3] → float32[d], L2-normalised."""
        front = self._front or await self._opened()
        return await front.submit(pixels, monotonic(deadline))

    async def encode_with_patches(self, pixels: UInt8, deadline: float) -> tuple[Float32, bytes | None]:
        """As `encode`, with the packed patches of the same forward pass.

        None where this replica was started before the index kept any: a gateway of the new spec asks it meanwhile.
        """
        front = self._front or await self._opened()
        if self._projection is None:
            return await front.submit(pixels, monotonic(deadline)), None
        vector, patches = await front.submit_with_patches(pixels, monotonic(deadline))
        return vector, self._projection.pack(patches[None]).row_bytes(0)

    async def _opened(self) -> DeadlineBatcher:
        async with self._starting:
            if self._front is None:
                spec = self._resource.spec.encoder
                runtime = await Runtime.from_env()
                encoder = await asyncio.to_thread(open_encoder, self._resource, runtime)
                self._about = AboutEncoder.of(encoder)
                self._projection = await asyncio.to_thread(
                    patch_projection, self._resource, runtime, encoder.backbone
                )
                self._front = batcher(spec, encoder, queued=spec.max_batch_size * 4)
            return self._front
