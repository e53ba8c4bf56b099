"""Colours as bytes: four for each, red, green, blue and share, at most five; what the catalog stores and shards load."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from visualindex.colours.distance import UInt8

MOST_COLOURS: Final = 5
_BYTES = 4


class Colour(NamedTuple):
    """One dominant colour; `share` is its part of the picture, 1 to 255 (all of it), and all shares sum to at most 255."""

    red: int
    green: int
    blue: int
    share: int


def pack(colours: Iterable[Colour]) -> bytes:
    """At most 20 bytes. Raises ValueError for more than five colours, values that are no bytes, or wrong shares."""
    given = tuple(colours)
    if len(given) > MOST_COLOURS:
        raise ValueError(f"{len(given)} colours are more than {MOST_COLOURS}")
    if sum(colour.share for colour in given) > 255 or any(colour.share < 1 for colour in given):
        raise ValueError("shares lie between 1 and 255 and sum to at most 255")
    return bytes(value for colour in given for value in colour)


def unpack(packed: bytes) -> tuple[Colour, ...]:
    """The inverse of `pack`; also of 20 bytes padded with zeros. Entries without a share are left out."""
    fours = (packed[at : at + _BYTES] for at in range(0, len(packed) - _BYTES + 1, _BYTES))
    return tuple(Colour(*four) for four in fours if four[3])


def packed_array(rows: Sequence[Iterable[Sequence[int]]]) -> UInt8:
    """Colours of n images as uint8 [n, 5, 4], share 0 where there is none.

    What came from elsewhere is bounded: more than five are cut, and shares beyond 255 in all are cut to what is left.
    """
    found = np.zeros((len(rows), MOST_COLOURS, _BYTES), np.uint8)
    for row, colours in enumerate(rows):
        left = 255
        for place, (red, green, blue, share) in enumerate(list(colours)[:MOST_COLOURS]):
            share = max(0, min(share, left))
            found[row, place] = red, green, blue, share
            left -= share
    return found
