"""The filter leaf for dominant colours: its form in JSON, what it means on one image, and the same on many rows at once.

An image passes when the colours that are meant have together at least `min_share` of it. Which colours are meant is a table
over the palette (visualindex.colours.palette), so that a name and a distance cost the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from visualindex.colours import NAMES, cells_named, cells_near, cells_of, parse_hex, to_hex

FIELD: Final = "colours"
"""Name of the attribute that holds an image's colours: a list of [red, green, blue, share]."""

MIN_SHARE: Final = 0.1
WITHIN: Final = 15.0
MOST_WITHIN: Final = 150.0

_BLOCK = 1 << 15  # rows whose intermediate values stay in the processor's cache
_KEYS = ("name", "near", "within", "min_share")


@dataclass(frozen=True)
class Colour:
    """Colours of a name, or within a ΔE of a colour, have at least `min_share` (0 to 1) of the picture in all."""

    name: str | None = None
    near: str | None = None
    within: float = WITHIN
    min_share: float = MIN_SHARE

    def document(self) -> dict[str, Any]:
        """The operand of the leaf in JSON."""
        which = {"name": self.name} if self.name is not None else {"near": self.near, "within": self.within}
        return {**which, "min_share": self.min_share}

    @property
    def least(self) -> int:
        """The least sum of shares, 1 to 255, that passes."""
        return max(1, math.ceil(self.min_share * 255 - 1e-9))


ANY_COLOUR: Final = Colour(near="#000000", within=MOST_WITHIN, min_share=0.0)
"""What every image with colours passes: nothing differs from black by more."""


def is_colour(value: Any) -> bool:
    """Whether a value names a colour or is one in hexadecimal digits after a `#`."""
    return isinstance(value, str) and (value in NAMES or (value.startswith("#") and _digits(value)))


def _digits(value: str) -> bool:
    try:
        parse_hex(value)
    except ValueError:
        return False
    return True


def colour_of(value: str) -> Colour:
    """The leaf of such a value, with the default share and distance."""
    return Colour(name=value) if value in NAMES else Colour(near=_hex(value))


class WrongColour(ValueError):  # noqa: N818 (the parser makes it an error with a place)
    """An operand that is none; `part` is the key that is wrong, empty for the operand itself."""

    def __init__(self, part: str, detail: str) -> None:
        super().__init__(detail)
        self.part = part
        self.detail = detail


def read_colour(operand: Any) -> Colour:
    """`{"name": …, "min_share": …}` or `{"near": "#aa3322", "within": …, "min_share": …}`. Raises WrongColour."""
    if not isinstance(operand, Mapping):
        raise WrongColour("", "colour needs an object like {'name': 'red'} or {'near': '#aa3322'}")
    for key in operand:
        if key not in _KEYS:
            raise WrongColour(str(key), f"unknown key {str(key)[:80]!r}; use one of: {', '.join(_KEYS)}")
    if ("name" in operand) == ("near" in operand):
        raise WrongColour("", "give one of name and near")
    share = _number(operand, "min_share", MIN_SHARE, 1.0)
    if "name" in operand:
        if "within" in operand:
            raise WrongColour("within", "within belongs to near: a name has no distance")
        return Colour(name=_name(operand["name"]), min_share=share)
    within = _number(operand, "within", WITHIN, MOST_WITHIN)
    return Colour(near=_hex(operand["near"]), within=within, min_share=share)


def _name(value: Any) -> str:
    if value not in NAMES:
        raise WrongColour("name", f"{str(value)[:80]!r} is no colour name; use one of: {', '.join(NAMES)}")
    return str(value)


def _hex(value: Any) -> str:
    try:
        return to_hex(*parse_hex(value if isinstance(value, str) else ""))
    except ValueError:
        detail = f"{str(value)[:80]!r} is no colour; write six hexadecimal digits, e.g. '#aa3322'"
        raise WrongColour("near", detail) from None


def _number(operand: Mapping[Any, Any], key: str, default: float, most: float) -> float:
    value = operand.get(key, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= most:
        raise WrongColour(key, f"{str(value)[:80]!r} is no number from 0 to {most:g}")
    return float(value)


@lru_cache(maxsize=256)
def _table(name: str | None, near: str | None, within: float) -> npt.NDArray[np.uint8]:
    """255 for each of the palette's cells that is meant, 0 for the others, uint8 [32768]."""
    meant = cells_named(name) if name is not None else cells_near(parse_hex(near or ""), within)
    return np.where(meant, np.uint8(255), np.uint8(0))


def colour_matches(leaf: Colour, colours: Iterable[Sequence[int]]) -> bool:
    """Whether an image with these colours, each [red, green, blue, share], passes."""
    table = _table(leaf.name, leaf.near, leaf.within)
    different = {tuple(colour) for colour in colours}
    return sum(share for *rgb, share in different if table[cells_of(np.array(rgb))]) >= leaf.least


def most_passing(leaf: Colour, images_by_cell: npt.NDArray[np.int64]) -> int:
    """Most images that can pass, from the number of images that have each cell, int64 [32768]."""
    return int(images_by_cell[_table(leaf.name, leaf.near, leaf.within) > 0].sum())


def colours_passing(leaf: Colour, colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which of n images pass, bool [n], by their colours uint8 [n, 5, 4] (share 0: none; shares sum to at most 255).

    A million images take about 12 ms: a colour is one 32-bit number, and its cell three shifts of it.
    """
    table = _table(leaf.name, leaf.near, leaf.within)
    numbers = np.ascontiguousarray(colours).view("<u4")[..., 0]
    found = np.empty(len(colours), np.bool_)
    for start in range(0, len(colours), _BLOCK):
        block = numbers[start : start + _BLOCK]
        cells = ((block & 0xF8) << 7) | ((block >> 6) & 0x3E0) | ((block >> 19) & 0x1F)
        # `wrap` spares the check of bounds, which every cell keeps.
        shares = table.take(cells, mode="wrap") & (block >> 24).astype(np.uint8)
        total = shares[:, 0].astype(np.uint16)
        for place in range(1, shares.shape[1]):
            total += shares[:, place]
        found[start : start + _BLOCK] = total >= leaf.least
    return found
