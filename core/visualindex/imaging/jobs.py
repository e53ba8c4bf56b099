"""What a decode is asked for and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visualindex.colours import Colour
from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging.headers import Buffer, ImageInfo
from visualindex.imaging.inputs import InputSpec

if TYPE_CHECKING:
    from visualindex.spec import LimitsSpec

Box: TypeAlias = tuple[float, float, float, float]
"""x, y, width and height as fractions 0 to 1 of the upright image."""

MAX_EDGE = 2048
"""Longest edge in pixels of an encoder's input or of a thumbnail."""


@dataclass(frozen=True)
class DecodeJob:
    """One image to decode: pixels for an encoder (of `box` or the whole), thumbnails and dominant colours of the whole.

    With none of them, the image is only checked to decode. Raises ProblemError INVALID_REQUEST for an impossible box or
    size.
    """

    data: Buffer
    input: InputSpec | None
    box: Box | None = None
    thumbnails: tuple[int, ...] = ()
    colours: bool = False

    def __post_init__(self) -> None:
        if self.box is not None:
            _check_box(self.box)
        edges = (
            self.thumbnails if self.input is None else (*self.thumbnails, self.input.height, self.input.width)
        )
        for edge in edges:
            if not 1 <= edge <= MAX_EDGE:
                raise _impossible(f"a size of {edge} pixels lies outside 1 to {MAX_EDGE}")


@dataclass(frozen=True)
class Decoded:
    """A decoded image: `pixels` uint8[height, width, 3] RGB for the encoder, WebP `thumbnails` by longest edge.

    `colours` are the dominant ones, largest share first; none when they were not asked for.
    """

    pixels: NDArray[np.uint8] | None
    info: ImageInfo
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    colours: tuple[Colour, ...] = ()
    cpu_ms: float = 0.0


@dataclass(frozen=True)
class Bounds:
    """The limits that are checked from the header."""

    image_bytes: int
    image_pixels: int
    image_frames: int

    @classmethod
    def of(cls, limits: "LimitsSpec") -> "Bounds":
        """The part of an index's limits that concerns decoding."""
        return cls(limits.image_bytes, limits.image_pixels, limits.image_frames)

    def check_bytes(self, size: int) -> None:
        """Raises ProblemError IMAGE_TOO_LARGE for a file of more than `image_bytes`."""
        if size > self.image_bytes:
            raise too_large(f"{size} bytes", f"{self.image_bytes} (limits.imageBytes)")

    def check_info(self, info: ImageInfo) -> None:
        """Raises ProblemError IMAGE_TOO_LARGE for more pixels or frames than allowed."""
        if info.width * info.height > self.image_pixels:
            raise too_large(f"{info.width}x{info.height} pixels", f"{self.image_pixels} (limits.imagePixels)")
        if info.frames > self.image_frames:
            raise too_large(f"{info.frames} frames", f"{self.image_frames} (limits.imageFrames)")


def too_large(has: str, allowed: str) -> ProblemError:
    """The problem of an image beyond a limit."""
    detail = f"The image has {has}, this index takes at most {allowed}: send a smaller one."
    return ProblemError(ProblemType.IMAGE_TOO_LARGE, detail)


def _check_box(box: Box) -> None:
    x, y, width, height = box
    # Callers compute boxes by division: an edge may overshoot 1 by a rounding error.
    inside = x >= 0 and y >= 0 and x + width <= 1 + 1e-6 and y + height <= 1 + 1e-6
    if not (inside and width > 0 and height > 0):
        raise _impossible(
            f"the box {box} does not lie inside the image (x, y, width, height as fractions 0 to 1)"
        )


def _impossible(why: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, f"The image cannot be decoded as asked: {why}.")
