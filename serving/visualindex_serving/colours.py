"""An image's dominant colours as answers show them."""

from collections.abc import Iterable
from typing import Any

from visualindex.colours import Colour, name_of, to_hex


def shown_colours(colours: Iterable[Colour]) -> list[dict[str, Any]]:
    """The fields of a ColourView each."""
    return [
        {"hex": to_hex(red, green, blue), "share": round(share / 255, 3), "name": name_of(red, green, blue)}
        for red, green, blue, share in colours
    ]
