"""An encoder as a gateway uses it, in its own process or in a deployment, with all that depends on its vectors."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from ray import serve

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodePool
from visualindex.serve_config import ENCODER, encoder_application
from visualindex.spec import VisualIndex
from visualindex_serving.config import Runtime
from visualindex_serving.encoding import (
    AboutEncoder,
    about_remote,
    batcher,
    local_encode,
    local_encode_with_patches,
    open_encoder,
    patch_projection,
    remote_encode,
    remote_encode_with_patches,
)
from visualindex_serving.patience import once_there
from visualindex_serving.reranking import NO_RERANKING, Reranking
from visualindex_serving.vision import EncodeOne, EncodeWithPatches, Vision

MakeReranking = Callable[[VisualIndex, str | None], Reranking]
"""The reranking of an index whose encoder is as in that resource, over patches of that fingerprint."""


_ANSWERS_S = 10.0


async def _nothing() -> None:
    """There is nothing to close."""


@dataclass(frozen=True)
class EncoderInUse:
    """An encoder's name and what is done with it. `close` frees it, once nothing uses it any more."""

    fingerprint: str
    dimension: int
    vision: Vision
    reranking: Reranking = NO_RERANKING
    close: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True)
class _Way:
    about: AboutEncoder
    encode: EncodeOne
    with_patches: EncodeWithPatches | None
    features: str | None
    close: Callable[[], Awaitable[None]] = _nothing


async def open_in_use(
    resource: VisualIndex,
    runtime: Runtime,
    pool: DecodePool,
    reranking: MakeReranking,
    *,
    patiently: bool = True,
) -> EncoderInUse:
    """Open the encoder of a resource where its placement has it; `patiently`: wait for a deployment that does not run yet.

    Raises EncoderConfigError and ProblemError.
    """
    if resource.spec.encoder.in_gateway:
        way = await _here(resource, runtime)
    else:
        way = await _deployed(resource, runtime, patiently=patiently)
    about = way.about
    vision = Vision(pool, about.input, way.encode, encode_with_patches=way.with_patches)
    return EncoderInUse(
        about.fingerprint, about.dimension, vision, reranking(resource, way.features), way.close
    )


async def _here(resource: VisualIndex, runtime: Runtime) -> _Way:
    spec = resource.spec
    encoder = await asyncio.to_thread(open_encoder, resource, runtime)
    queued = spec.gateway.max_concurrent_requests
    front = batcher(spec.encoder, encoder, queued=queued, sharers=runtime.gateways_here)
    packing = await asyncio.to_thread(patch_projection, resource, runtime, encoder.backbone)

    async def close() -> None:
        await front.aclose()
        encoder.close()

    about = AboutEncoder.of(encoder)
    if packing is None:
        return _Way(about, local_encode(front), None, None, close)
    with_patches = local_encode_with_patches(front, packing)
    return _Way(about, local_encode(front), with_patches, packing.fingerprint, close)


async def _deployed(resource: VisualIndex, runtime: Runtime, *, patiently: bool) -> _Way:
    handle = serve.get_deployment_handle(ENCODER, encoder_application(resource))
    asking = partial(about_remote, handle)
    about = await (once_there("the encoder's deployment", asking) if patiently else _at_once(asking))
    packing = await asyncio.to_thread(patch_projection, resource, runtime, about.backbone)
    if packing is None:
        return _Way(about, remote_encode(handle), None, None)
    return _Way(about, remote_encode(handle), remote_encode_with_patches(handle), packing.fingerprint)


async def _at_once(asking: Callable[[], Awaitable[AboutEncoder]]) -> AboutEncoder:
    """The answer of a deployment that may not exist: a call of one that Serve does not know can wait for ever."""
    try:
        async with asyncio.timeout(_ANSWERS_S):
            return await asking()
    except TimeoutError as exc:
        raise ProblemError(ProblemType.UNAVAILABLE, "its deployment does not run") from exc


def in_words(error: Exception) -> str:
    """Why an encoder could not be had, in one line."""
    return " ".join((error.detail if isinstance(error, ProblemError) else str(error)).split())
