"""Comparing the rows of two places that both change: what differs, and what goes on to differ.

A replica is always a little behind. So a difference is believed when it was seen twice, by two looks that are each made
so: the truth is read first, and the replica is asked once it has applied everything that the truth held. When both looks
show the same of an image, it did not change in between, and the replica had every chance to know it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.checking.findings import FindingKind

SAME = 2.0**-9
"""Largest distance of two half-precision unit vectors that are the same but for how a processor rounds."""


@dataclass(frozen=True)
class Held:
    """An image as one place holds it: its version, and its unit vector, float32 [d]."""

    version: int
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """An image that two places do not hold alike. A version is None where the image is not held."""

    kind: FindingKind
    image_id: bytes
    wanted: int | None
    held: int | None


Sides = tuple[Mapping[bytes, Held], Mapping[bytes, Held]]
"""The truth, and the replica, by image id."""


def compared(sides: Sides) -> set[Difference]:
    """What one look shows."""
    wanted, held = sides
    found = set[Difference]()
    for image_id, row in wanted.items():
        mine = held.get(image_id)
        if mine is None:
            found.add(Difference(FindingKind.LOST_ROW, image_id, row.version, None))
        elif mine.version != row.version:
            found.add(Difference(FindingKind.STALE_ROW, image_id, row.version, mine.version))
        elif float(np.linalg.norm(mine.vector - row.vector)) > SAME:
            found.add(Difference(FindingKind.DAMAGED_VECTOR, image_id, row.version, mine.version))
    for image_id in held.keys() - wanted.keys():
        found.add(Difference(FindingKind.STRAY_VECTOR, image_id, None, held[image_id].version))
    return found
