"""Where images are encoded: inside the gateway on CPU, in deployments of their own on GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray.serve.exceptions import DeploymentUnavailableError

from visualindex.encoders import Encoder, load_encoder
from visualindex.encoders.batching import DeadlineBatcher
from visualindex.encoders.patch_packing import load_packing
from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import InputSpec
from visualindex.rerank.patches import PatchProjection
from visualindex.spec import EncoderSpec, VisualIndex
from visualindex_serving.config import Runtime
from visualindex_serving.cores import cores
from visualindex_serving.deadlines import monotonic
from visualindex_serving.messages import Float32, UInt8
from visualindex_serving.vision import EncodeOne, EncodeWithPatches


@dataclass(frozen=True)
class AboutEncoder:
    """What a gateway must know of an encoder it does not hold."""

    fingerprint: str
    dimension: int
    input: InputSpec
    backbone: str = ""
    """Fingerprint without projection; empty where the encoder's replica is of the release before."""

    @classmethod
    def of(cls, encoder: Encoder) -> "AboutEncoder":
        """The facts about a loaded encoder."""
        return cls(encoder.fingerprint, encoder.dimension, encoder.input, encoder.backbone)


def open_encoder(resource: VisualIndex, runtime: Runtime) -> Encoder:
    """Load an index's encoder with a thread per core for a lone caller. Blocks; raises EncoderConfigError."""
    from visualindex.objectstore.download import (
        download,  # the client of buckets is slow to import and rarely needed
    )

    fetch = partial(download, s3=resource.spec.storage.s3, credentials=runtime.credentials)
    return load_encoder(resource.spec.encoder, cache_dir=runtime.cache_dir, threads=cores(), fetch=fetch)


def batcher(spec: EncoderSpec, encoder: Encoder, *, queued: int, sharers: int = 1) -> DeadlineBatcher:
    """The batching front of an encoder; `sharers` processes encode on the same cores."""
    return DeadlineBatcher.for_encoder(
        encoder,
        max_batch_size=spec.max_batch_size,
        batch_deadline_ms=spec.batch_deadline_ms,
        max_queued=queued,
        sharers=sharers,
    )


def local_encode(front: DeadlineBatcher) -> EncodeOne:
    """Encode in this process."""

    async def encode(pixels: UInt8, deadline: float, *, alone: bool) -> Float32:
        return await front.submit(pixels, monotonic(deadline), alone=alone)

    return encode


def local_encode_with_patches(front: DeadlineBatcher, projection: PatchProjection) -> EncodeWithPatches:
    """Encode in this process, with packed patches of the same forward pass."""

    async def encode(pixels: UInt8, deadline: float, *, alone: bool) -> tuple[Float32, bytes | None]:
        vector, patches = await front.submit_with_patches(pixels, monotonic(deadline), alone=alone)
        return vector, projection.pack(patches[None]).row_bytes(0)

    return encode


def patch_projection(resource: VisualIndex, runtime: Runtime, backbone: str) -> PatchProjection | None:
    """What packs the patches of an index that keeps them; None for one that does not.

    Blocks. Raises ProblemError INVALID_REQUEST where there is none that was fitted on this encoder.
    """
    from visualindex.objectstore.download import download

    fetch = partial(download, s3=resource.spec.storage.s3, credentials=runtime.credentials)
    return load_packing(resource.spec.rerank, backbone, cache_dir=runtime.cache_dir, fetch=fetch)


async def about_remote(handle: Any) -> AboutEncoder:
    """What the encoder deployment says of itself. Raises ProblemError UNAVAILABLE while Serve has none that runs."""
    try:
        about: AboutEncoder = await handle.about.remote()
    except DeploymentUnavailableError as exc:
        raise ProblemError(ProblemType.UNAVAILABLE, f"No encoder runs yet ({exc}).") from exc
    return about


def remote_encode(handle: Any) -> EncodeOne:
    """Encode in the encoder deployment; a replica that died under the call is replaced by another, once."""
    call: Callable[..., Any] = handle.encode.remote

    async def encode(pixels: UInt8, deadline: float, *, alone: bool) -> Float32:
        from visualindex_serving.handles import call_twice

        vector: Float32 = await call_twice(lambda: call(pixels, deadline), deadline, "encoding the image")
        return vector

    return encode


def remote_encode_with_patches(handle: Any) -> EncodeWithPatches:
    """As `remote_encode`, with the patches that the deployment packed."""
    call: Callable[..., Any] = handle.encode_with_patches.remote

    async def encode(pixels: UInt8, deadline: float, *, alone: bool) -> tuple[Float32, bytes | None]:
        from visualindex_serving.handles import call_twice

        both: tuple[Float32, bytes | None] = await call_twice(
            lambda: call(pixels, deadline), deadline, "encoding the image"
        )
        return both

    return encode
