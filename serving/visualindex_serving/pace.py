"""Whether a search is over sooner than it takes to hand it to another thread and its answer back."""

from typing import Literal

Kind = Literal["plain", "filtered"]
"""Searches that have a pace in common: what a filter costs is another matter than what the index does."""

_QUICK_MS = 1.0
_WEIGHT = 0.1
_MOST_MS = 4.0
"""What one search counts for at most: a single long one was kept waiting by others."""


class Pace:
    """How long the searches of one kind have taken of late in a view, in milliseconds of the clock.

    It is measured, not reckoned from the number of rows: a graph whose pages are still on disk is slow, however small.
    """

    def __init__(self) -> None:
        self._usual_ms = 2 * _QUICK_MS

    @property
    def quick(self) -> bool:
        """Whether the next such search may run where it keeps everything else waiting."""
        return self._usual_ms <= _QUICK_MS

    def took(self, milliseconds: float) -> None:
        """Take a search into account."""
        self._usual_ms += (min(milliseconds, _MOST_MS) - self._usual_ms) * _WEIGHT
