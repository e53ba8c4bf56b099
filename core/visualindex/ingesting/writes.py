"""The rows of an image: of a picture that was just decoded, of the same picture as another image has it, of its own."""

import uuid
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from visualindex.api.images import ImageFields
from visualindex.catalog import ImageRecord, ImageWrite, Twin, check_direction
from visualindex.imaging import Decoded

WHOLE_IMAGE = 0
"""The region that is all of a picture."""


def write_of(
    image_id: uuid.UUID,
    fields: ImageFields,
    digest: bytes,
    size_bytes: int,
    decoded: Decoded,
    vectors: Mapping[str, NDArray[np.float32]],
    patches: Mapping[str, bytes],
    *,
    beside: bool = False,
) -> ImageWrite:
    """An image with its vectors, float32[d], by the fingerprint of their encoder, and packed patches by theirs.

    `beside` as in `ImageWrite`.

    Raises ProblemError INVALID_IMAGE for a vector that points nowhere.
    """
    for vector in vectors.values():
        check_direction(vector)
    return ImageWrite(
        image_id=image_id,
        key=fields.key,
        url=fields.url,
        category=fields.category,
        metadata=fields.metadata,
        content_digest=digest,
        media_type=decoded.info.media_type,
        width=decoded.info.width,
        height=decoded.info.height,
        size_bytes=size_bytes,
        colours=decoded.colours,
        embeddings={(WHOLE_IMAGE, fingerprint): vector for fingerprint, vector in vectors.items()},
        patches=patches,
        beside=beside,
    )


def write_of_twins(
    image_id: uuid.UUID, fields: ImageFields, digest: bytes, twins: Mapping[str, Twin], *, beside: bool
) -> ImageWrite:
    """An image of content that the index has: what was made of it is made of this one, too.

    `twins` has for the fingerprint of each encoder an image of that content with its vector.
    """
    twin = next(iter(twins.values()))
    patches = {name: packed for one in twins.values() for name, packed in one.patches.items()}
    return ImageWrite(
        image_id=image_id,
        key=fields.key,
        url=fields.url,
        category=fields.category,
        metadata=fields.metadata,
        content_digest=digest,
        media_type=twin.media_type,
        width=twin.width,
        height=twin.height,
        size_bytes=twin.size_bytes,
        colours=twin.colours,
        embeddings={(WHOLE_IMAGE, fingerprint): one.vector for fingerprint, one in twins.items()},
        patches=patches,
        beside=beside,
    )


def write_of_fields(record: ImageRecord, fields: ImageFields, *, beside: bool) -> ImageWrite:
    """The image with other fields; its vectors stay with its content."""
    return ImageWrite(
        image_id=record.image_id,
        key=fields.key,
        url=fields.url,
        category=fields.category,
        metadata=fields.metadata,
        content_digest=record.content_digest,
        media_type=record.media_type,
        width=record.width,
        height=record.height,
        size_bytes=record.size_bytes,
        colours=record.colours,
        embeddings={},
        beside=beside,
        fields_alone=True,
    )
