"""The 32,768 colours that are told apart: five bits a channel.

Every answer about a colour (its name, its distance to another) is one look into a table of that many entries, the same
table for one colour and for a million rows. Neighbours in the palette differ by about the least difference that shows.
"""

import re
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from visualindex.colours.distance import Float32, UInt8, to_lab

CELLS: Final = 1 << 15
_DROPPED, _RED, _GREEN = np.uint16(3), np.uint16(10), np.uint16(5)
_HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def cells_of(rgb: npt.NDArray[np.integer]) -> npt.NDArray[np.uint16]:
    """The palette's cells of sRGB uint8 [..., 3], uint16 [...]."""
    wide = rgb.astype(np.uint16) >> _DROPPED
    cells: npt.NDArray[np.uint16] = wide[..., 0] << _RED | wide[..., 1] << _GREEN | wide[..., 2]
    return cells


@cache
def colours_of_cells() -> UInt8:
    """The colour that stands for each cell, uint8 [32768, 3]: five bits stretched to eight, so that black and white stay."""
    channels = np.array([value << 3 | value >> 2 for value in range(32)], np.uint8)
    cells = np.arange(CELLS)
    return channels[np.stack([cells >> 10, (cells >> 5) & 31, cells & 31], -1)]


@cache
def lab_of_cells() -> Float32:
    """Each cell's place in the space of `distance.to_lab`, float32 [32768, 3]."""
    return to_lab(colours_of_cells())


def snapped(rgb: npt.NDArray[np.integer]) -> UInt8:
    """The palette's colours nearest by cell, uint8 [..., 3]; a colour of the palette stays as it is."""
    found: UInt8 = colours_of_cells()[cells_of(rgb)]
    return found


def parse_hex(text: str) -> tuple[int, int, int]:
    """`#aa3322`, `aa3322` or `#a32` as red, green and blue. Raises ValueError for anything else."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"{text!r} is no colour: write six hexadecimal digits, e.g. #aa3322")
    digits = text.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def to_hex(red: int, green: int, blue: int) -> str:
    """The colour as `#rrggbb`."""
    return f"#{red:02x}{green:02x}{blue:02x}"
