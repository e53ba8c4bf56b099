"""Names of colours: the eleven basic colour terms, and beige and turquoise, which shops need.

The terms are those of B. Berlin and P. Kay, "Basic Color Terms" (1969). Their places are the medians of the XKCD colour
survey (R. Munroe, 2010; 222,500 people; dedicated to the public under CC0): the term itself, and with it the commonest
compounds that people would still call by it ("dark green", "navy blue"), for the region of a term is no ball. A colour has
the name of the nearest of these places.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from visualindex.colours.distance import Float32, to_lab
from visualindex.colours.palette import cells_of, lab_of_cells, parse_hex

Cells = npt.NDArray[np.bool_]
"""Which of the palette's cells are meant, bool [32768]."""

_PLACES: Final[Mapping[str, str]] = {
    "black": "000000 070d0d 343837",
    "white": "ffffff fdfdfe",
    "grey": "929591 7d7f7c c5c9c7 3c4142",
    "red": "e50000 840000 ff474c be0119 8c000f ff000d bb3f3f 650021",
    "orange": "f97306 c65102 fdaa48 ff5b00 fd8d49 d8863b",
    "yellow": "ffff14 d5b60a fffe7a dbb40c eedc5b fac205 ceb301 b59410",
    "green": "15b01a 033500 96f97b 06470c 6e750e 74a662 aaff32 9ffeb0 87ae73 c7fdb5 4b5d16 0a481e 2b5d34 11875d",
    "blue": "0343df 00035b 95d0fc 75bbfd 01153e 49759c d0fefe 6b8ba4 3b638c 069af3 4e5481 1f3b4d",
    "purple": "7e1e9c 35063e bf77f6 9a0eea c79fef 84597e 380282 c20078 580f41",
    "pink": "ff81c0 cb416b ffd1df d5869d ff028d ff796c cf6275",
    "brown": "653700 341c02 ad8150 7f5112 876e4b 7f2b0a 735c12 60460f 3d1c02 1d0200 a0450e",
    "beige": "e6daa6 d1b26f e2ca76 fbeeac b9a281 ffd8b1",
    "turquoise": "06c2ac 029386 045c5a 7ef4cc 13eac9 00ffff 5f9e8f 719f91",
}

NAMES: Final = tuple(_PLACES)
"""Every name, in the order of the table."""


@cache
def _names_of_cells() -> npt.NDArray[np.uint8]:
    """The number of each cell's name, uint8 [32768]."""
    owners = [number for number, places in enumerate(_PLACES.values()) for _ in places.split()]
    places = to_lab(np.array([parse_hex(place) for text in _PLACES.values() for place in text.split()]))
    nearest = np.argmin([_squares(place) for place in places], axis=0)
    names: npt.NDArray[np.uint8] = np.array(owners, np.uint8)[nearest]
    return names


def _squares(place: Float32) -> Float32:
    difference = lab_of_cells() - place
    squares: Float32 = np.einsum("nc,nc->n", difference, difference)
    return squares


def name_of(red: int, green: int, blue: int) -> str:
    """The name of a colour."""
    return NAMES[_names_of_cells()[cells_of(np.array([red, green, blue]))]]


@cache
def cells_named(name: str) -> Cells:
    """The cells of that name. Raises ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"{name!r} is no colour name: use one of {', '.join(NAMES)}")
    cells: Cells = _names_of_cells() == NAMES.index(name)
    return cells


def cells_near(rgb: tuple[int, int, int], within: float) -> Cells:
    """The cells that differ from a colour by at most ΔE `within`; the colour's own cell is always one of them."""
    found: Cells = _squares(to_lab(np.array(rgb))) <= np.float32(within) ** 2
    found[cells_of(np.array(rgb))] = True
    return found
