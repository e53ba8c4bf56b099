"""Vectors that point nowhere: all of zeros, or with a number that is not finite.

They are like no other, so none is taken in, and where an earlier release stored one it is passed over, so that one image
does not keep all others from being served.
"""

import logging
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import numpy.typing as npt

from visualindex.errors import ProblemError, ProblemType

logger = logging.getLogger(__name__)

NO_DIRECTION = (
    "the encoder gives the picture a vector that points nowhere (all zero, or not finite), so nothing is like it: "
    "send another picture, or check spec.encoder if this happens to more than one"
)
_NAMED = 20
_INFINITE = 0x7C00
"""The bits of an infinite float16; those of other numbers that are not finite are higher."""


def directionless(vectors: npt.NDArray[np.float16]) -> npt.NDArray[np.int64]:
    """The places, ascending, of the rows of float16[n, d] that point nowhere."""
    largest = (vectors.view(np.uint16) & 0x7FFF).max(axis=1, initial=0)
    return np.flatnonzero((largest == 0) | (largest >= _INFINITE))


def has_direction(vector: bytes) -> bool:
    """Whether a stored vector, float16[d] as bytes, points anywhere."""
    return not len(directionless(np.frombuffer(vector, "<f2")[None]))


def stored(vector: npt.ArrayLike) -> npt.NDArray[np.float16]:
    """The vector, float16[d], as it is stored. What is too large for that becomes infinite, what is too small zero."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(vector, "<f2")


def check_direction(vector: npt.ArrayLike, what: str = "") -> None:
    """Raise ProblemError INVALID_IMAGE when the vector, as it is stored, points nowhere; `what` names the image."""
    if not has_direction(stored(vector).tobytes()):
        raise ProblemError(ProblemType.INVALID_IMAGE, f"{what}{NO_DIRECTION}")


def tell_passed_over(index: str, image_ids: Sequence[UUID]) -> None:
    """Log which images are left out of what is read."""
    if not image_ids:
        return
    named = ", ".join(map(str, image_ids[:_NAMED]))
    more = f" and {len(image_ids) - _NAMED} more" if len(image_ids) > _NAMED else ""
    logger.error(
        "images of index %s are found by nobody, because their stored vectors point nowhere (all zero, or not "
        "finite): %s%s; send them again, or delete them",
        index,
        named,
        more,
    )
