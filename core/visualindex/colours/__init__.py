"""Dominant colours of pictures: found at ingest, named, compared, and packed for the catalog and the shards."""

from visualindex.colours.distance import JUST_NOTICEABLE, delta_e
from visualindex.colours.extract import EDGE, dominant_colours
from visualindex.colours.names import NAMES, cells_named, cells_near, name_of
from visualindex.colours.packing import MOST_COLOURS, Colour, pack, packed_array, unpack
from visualindex.colours.palette import CELLS, cells_of, parse_hex, to_hex

__all__ = [
    "CELLS",
    "EDGE",
    "JUST_NOTICEABLE",
    "MOST_COLOURS",
    "NAMES",
    "Colour",
    "cells_named",
    "cells_near",
    "cells_of",
    "delta_e",
    "dominant_colours",
    "name_of",
    "pack",
    "packed_array",
    "parse_hex",
    "to_hex",
    "unpack",
]
