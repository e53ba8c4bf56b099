"""The plain background of a product shot, told from a product of the same colour by where it lies."""

from typing import Final

import numpy as np
import numpy.typing as npt

from visualindex.colours.palette import CELLS, lab_of_cells

BACKGROUND_SHARE: Final = 0.1
"""Most of a picture that a plain background may count for, whatever its area: it is there, yet no filter asks for it."""

_PLAIN = 0.75  # of the border, for a background to be plain
_TINT = 4.0  # ΔE in a and b: a background has one hue
_SHADE = 9.0  # ΔE in L: vignettes and soft shadows belong to it
_SAME = 2.5  # ΔE: what is enclosed by the product and this close to the background shows through it

Mask = npt.NDArray[np.bool_]


def background(cells: npt.NDArray[np.uint16]) -> Mask:
    """Which pixels of a picture (palette cells [h, w]) are a plain background, bool [h, w]; none where there is none."""
    border = np.concatenate([cells[0], cells[-1], cells[1:-1, 0], cells[1:-1, -1]])
    commonest = int(np.bincount(border, minlength=CELLS).argmax())
    used = np.flatnonzero(np.bincount(cells.ravel()) != 0)  # of booleans ten times as fast
    difference = np.abs(lab_of_cells()[used] - lab_of_cells()[commonest])
    tint = np.hypot(difference[:, 1], difference[:, 2])
    alike = _pixels(cells, used, (difference[:, 0] <= _SHADE) & (tint <= _TINT))
    ring = np.concatenate([alike[0], alike[-1], alike[1:-1, 0], alike[1:-1, -1]])
    if np.count_nonzero(ring) < _PLAIN * len(ring):
        return np.zeros(cells.shape, np.bool_)
    return _reached(alike) | _pixels(cells, used, np.hypot(difference[:, 0], tint) <= _SAME)


def _pixels(cells: npt.NDArray[np.uint16], used: npt.NDArray[np.int64], chosen: Mask) -> Mask:
    """The pixels of those of the used cells that are chosen, bool [h, w]."""
    table = np.zeros(CELLS, np.bool_)
    table[used[chosen]] = True
    return table[cells]


def _reached(alike: Mask) -> Mask:
    """The pixels that steps up, down and sideways over alike pixels join to the border, in at most h + w steps.

    All pixels are bits of one number, so that a step over the whole picture is a few shifts; a column without bits keeps
    the end of a row from touching the start of the next.
    """
    height, width = alike.shape
    through = _as_number(alike)
    edge = np.zeros_like(alike)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    found = through & _as_number(edge)
    row = width + 1
    for _ in range(height + width):
        grown = found | (found << 1 | found >> 1 | found << row | found >> row) & through
        if grown == found:
            break
        found = grown
    return _as_mask(found, height, width)


def _as_number(mask: Mask) -> int:
    padded = np.pad(mask, ((0, 0), (0, 1)))
    return int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")


def _as_mask(number: int, height: int, width: int) -> Mask:
    bits = height * (width + 1)
    packed = np.frombuffer(number.to_bytes((bits + 7) // 8, "little"), np.uint8)
    return (
        np.unpackbits(packed, count=bits, bitorder="little")
        .reshape(height, width + 1)[:, :-1]
        .astype(np.bool_)
    )
