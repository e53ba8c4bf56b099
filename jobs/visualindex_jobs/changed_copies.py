"""Changed copies of stored pictures: queries whose answer is known, as users would send them."""

import asyncio
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from visualindex.ann.changes import normalised
from visualindex.catalog import Catalog
from visualindex.encoders import Encoder
from visualindex.errors import ProblemError, ProblemType
from visualindex.gate import EncodeCopies
from visualindex.imaging import DecodeJob, DecodePool
from visualindex.imaging.inputs import InputSpec
from visualindex.objectstore import ObjectStore, original_key
from visualindex.rerank.augmentations import AUGMENTATIONS

CHANGES = ("crop", "tight crop", "rotation", "colour", "border", "combined")
"""What users do to pictures; what becomes of a turned one is anybody's guess."""
_RASTER = 512
_PATIENCE_S = 60.0


async def changed_copies(data: bytes, seed: int, wanted: InputSpec, pool: DecodePool) -> NDArray[np.uint8]:
    """A copy for each of CHANGES as the encoder takes them, uint8[len(CHANGES), height, width, 3].

    Raises ProblemError for a file that cannot be decoded.
    """
    deadline = time.time() + _PATIENCE_S
    small = await pool.decode(DecodeJob(data, None, thumbnails=(_RASTER,)), deadline=deadline)
    raster = cv2.imdecode(np.frombuffer(small.thumbnails[_RASTER], np.uint8), cv2.IMREAD_COLOR_RGB)
    rng = np.random.default_rng(seed)
    copies = []
    for change in CHANGES:
        changed = AUGMENTATIONS[change](np.asarray(raster, np.uint8), rng)
        _, file = cv2.imencode(".png", cv2.cvtColor(changed, cv2.COLOR_RGB2BGR))
        decoded = await pool.decode(DecodeJob(file.tobytes(), wanted), deadline=time.time() + _PATIENCE_S)
        assert decoded.pixels is not None  # noqa: S101 - an input was asked for
        copies.append(decoded.pixels)
    return np.stack(copies)


def copies_encoder(
    catalog: Catalog, store: ObjectStore, index: str, encoder: Encoder, pool: DecodePool
) -> EncodeCopies:
    """Encodes changed copies for the quality gate; the same image has the same copies each time."""

    async def encode(images: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, NDArray[np.float32]]:
        records = await catalog.get_images(index, images)
        found = {}
        for image_id, record in records.items():
            key = original_key(index, record.content_digest)
            pixels = await _readable(store, key, zlib.crc32(image_id.bytes), encoder.input, pool)
            if pixels is not None:
                vectors = (await asyncio.to_thread(encoder.encode, pixels)).vectors
                found[image_id] = normalised(vectors, encoder.dimension, "copies")
        return found

    return encode


async def _readable(
    store: ObjectStore, key: str, seed: int, wanted: InputSpec, pool: DecodePool
) -> NDArray[np.uint8] | None:
    """The copies of a picture; None for one that was deleted meanwhile or that this release does not decode."""
    try:
        return await changed_copies(await store.get(key), seed, wanted, pool)
    except ProblemError as problem:
        if problem.type is ProblemType.UNAVAILABLE:
            raise
        return None
