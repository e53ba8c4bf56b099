"""Whether a search is over sooner than it takes to hand it to another thread and its answer back."""

from typing import Literal

Kind = Literal["plain", "filtered"]
"""Searches that have a pace in common: what a filter costs is another matter than what the index does."""

_QUICK_MS = 1.0
_WEIGHT = 0.1
_MOST_MS = 4.0
"""What one search counts for at most in what is usual: a single long one was kept waiting by others."""
_LONG_MS = 5.0
"""A search that takes longer is one that must not keep everything else waiting, however seldom."""
_SPARED_MS = 0.05
"""What a short search pays back of what the long ones took: where these ran at once, they cost the others no more than that
for each search, a small part of what the way to a thread takes."""
_MOST_OWED_MS = 1000.0
"""The clock runs on while a machine stands still, too: some 20,000 short searches make up for anything."""


class Pace:
    """How long the searches of one kind have taken of late in a view, in milliseconds of the clock.

    A mean hides the long ones among many short ones, as filters that leave few rows and such that leave most are: what
    those took is kept apart and has to be made up for first.

    It is measured, not reckoned from the number of rows: a graph whose pages are still on disk is slow, however small.
    """

    def __init__(self) -> None:
        self._usual_ms = 2 * _QUICK_MS
        self._owed_ms = 0.0

    @property
    def quick(self) -> bool:
        """Whether the next such search may run where it keeps everything else waiting."""
        return self._usual_ms <= _QUICK_MS and self._owed_ms <= 0

    def took(self, milliseconds: float) -> None:
        """Take a search into account."""
        change = milliseconds if milliseconds > _LONG_MS else -_SPARED_MS
        self._owed_ms = min(max(0.0, self._owed_ms + change), _MOST_OWED_MS)
        self._usual_ms += (min(milliseconds, _MOST_MS) - self._usual_ms) * _WEIGHT
