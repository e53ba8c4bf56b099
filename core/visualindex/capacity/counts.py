"""Numbers of images as people write them: `10k`, `200M`, `1.5B`."""

import re
from decimal import Decimal

_NUMBER = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([kKmMbBgG]?)")
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000, "g": 1_000_000_000}
_MOST = 10**12
_SHORT = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))


def parse_count(text: str) -> int:
    """How many images `text` says. Raises ValueError when it says no whole number from 1 to a trillion."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is no number of images: write one such as 10k, 200M or 1.5B")
    number = Decimal(match[1].replace(",", "").replace("_", "")) * _FACTORS[match[2].lower()]
    if number != int(number) or not 1 <= number <= _MOST:
        raise ValueError(f"'{text}' is no whole number of images from 1 to 1000B")
    return int(number)


def short_count(count: int) -> str:
    """As short as it can be said exactly, or with separators: 200M, 1.5B, 123,456."""
    for factor, suffix in _SHORT:
        if count >= factor and count * 10 % factor == 0:
            return f"{count / factor:g}{suffix}"
    return f"{count:,}"
