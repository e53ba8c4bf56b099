"""Ridding the side table of patches that the active generation holds, a bounded step at a time."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence

from visualindex.catalog import Catalog
from visualindex.rerank.segment_patches import SegmentPatches

STEP = 2000
"""Images that are looked at in one step."""


async def forget_folded(
    catalog: Catalog,
    index: str,
    generation: str,
    features: str,
    segments: Sequence[SegmentPatches],
    after: uuid.UUID | None,
) -> uuid.UUID | None:
    """Look at the images beyond `after` and delete the patches that `segments`, of `generation`, have as new or newer.

    Returns where the next step goes on; None is the beginning. Nothing goes unless that generation is the active one.
    """
    stored = await catalog.stored_patches(index, features, after, STEP)
    if not stored:
        return None
    folded = await asyncio.to_thread(_folded, segments, stored)
    if folded:
        await catalog.forget_patches(index, generation, folded, features)
    return max(stored, key=lambda image_id: image_id.bytes) if len(stored) == STEP else None


def _folded(segments: Sequence[SegmentPatches], stored: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, int]:
    folded = {}
    for image_id, version in stored.items():
        for segment in segments:
            found = segment.find(image_id)
            if found is not None and found.version >= version:
                folded[image_id] = found.version
    return folded
