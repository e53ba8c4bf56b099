"""An image's dominant colours as answers show them."""

from functools import lru_cache
from typing import Any

from visualindex.colours import Colour, name_of, to_hex


@lru_cache(maxsize=16_384)
def shown_colours(colours: tuple[Colour, ...]) -> list[dict[str, Any]]:
    """The fields of a ColourView each; remembered, since naming a colour takes longer than all else of a hit."""
    return [
        {"hex": to_hex(red, green, blue), "share": round(share / 255, 3), "name": name_of(red, green, blue)}
        for red, green, blue, share in colours
    ]
