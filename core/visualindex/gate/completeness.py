"""Whether a generation holds what it ought to hold: one that is built after the catalog lost vectors lacks their images."""

import asyncio
from dataclasses import dataclass

from visualindex.catalog import Catalog, GenerationRecord
from visualindex.gate.opened import Opened


@dataclass(frozen=True)
class Completeness:
    """Of the images that a generation ought to hold, how many are `expected`, and how many of those are `missing`."""

    expected: int
    missing: int


async def completeness(catalog: Catalog, record: GenerationRecord, opened: Opened) -> Completeness | None:
    """None where the change log does not reach back to the generation: an old one, or one of a restored database."""
    expected = await catalog.expected_images(record.index, record.watermark)
    if expected is None:
        return None
    held = opened.images - await asyncio.to_thread(opened.count, expected.apart)
    return Completeness(expected.images, max(0, expected.images - held))
