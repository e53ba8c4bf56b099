"""The dominant colours of rows: beside the other attributes, for they are compared by distance and not by value."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from visualindex.colours import CELLS, MOST_COLOURS, cells_of

FIELD = "colours"
"""The name that an image's colours have among its attributes."""

ROW_BYTES = MOST_COLOURS * 4

Colours = NDArray[np.uint8]
"""Red, green, blue and share of each row's colours, uint8 [rows, 5, 4]; all zero where a row has fewer."""

NO_COLOURS: Colours = np.zeros((0, MOST_COLOURS, 4), np.uint8)


def as_numbers(colours: Iterable[Sequence[int]]) -> set[int]:
    """Colours as comparable keys: one number each, its bytes being red, green, blue and share."""
    return {red | green << 8 | blue << 16 | share << 24 for red, green, blue, share in colours}


def as_row(numbers: Iterable[object]) -> bytes:
    """The 20 bytes of a row with these numbers."""
    ordered = sorted((number for number in numbers if isinstance(number, int)), reverse=True)[:MOST_COLOURS]
    return b"".join(number.to_bytes(4, "little") for number in ordered).ljust(ROW_BYTES, b"\0")


def as_colours(packed: bytes | bytearray | NDArray[np.uint8]) -> Colours:
    """The rows that lie one after another in `packed`."""
    return np.frombuffer(packed, np.uint8).reshape(-1, MOST_COLOURS, 4)


def images_by_cell(colours: Colours) -> NDArray[np.int64]:
    """How many colours of the rows lie in each of the palette's cells, int64 [32768]."""
    return np.bincount(cells_of(colours[..., :3][colours[..., 3] > 0]), minlength=CELLS).astype(np.int64)


class ColourRows:
    """The colours of fresh rows, for one writer that appends and many readers. Takes no memory until a row has colours."""

    def __init__(self, colours: Colours = NO_COLOURS) -> None:
        self._held = colours
        self._counts = images_by_cell(colours)

    def append(self, first: int, rows: Sequence[bytes]) -> None:
        """Add the bytes of rows `first`, `first + 1`, …; what readers hold is never changed below the rows they know."""
        if not any(any(row) for row in rows):
            return
        added = as_colours(b"".join(rows))
        stop = first + len(added)
        held = self._held
        if stop > len(held):
            grown = np.zeros((max(stop, len(held) * 3 // 2), MOST_COLOURS, 4), np.uint8)
            grown[: len(held)] = held
            held = grown
        held[first:stop] = added
        self._counts = self._counts + images_by_cell(added)
        self._held = held

    def first(self, rows: int) -> Colours:
        """Those of the first `rows` rows."""
        held = self._held
        if len(held) >= rows:
            return held[:rows]
        return np.concatenate([held, np.zeros((rows - len(held), MOST_COLOURS, 4), np.uint8)])

    @property
    def by_cell(self) -> NDArray[np.int64]:
        """How many colours of the rows lie in each of the palette's cells, int64 [32768]."""
        return self._counts

    def renumbered(self, places: NDArray[np.int64]) -> "ColourRows":
        """A copy for rows that moved: row i is now row `places[i]`, gone where that is -1."""
        alive = np.flatnonzero(places[: len(self._held)] >= 0)
        if not len(alive):
            return ColourRows()
        moved = np.zeros((int(places.max()) + 1, MOST_COLOURS, 4), np.uint8)
        moved[places[alive]] = self._held[alive]
        return ColourRows(moved)

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        return self._held.nbytes + self._counts.nbytes
