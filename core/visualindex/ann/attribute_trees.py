"""And, or and not over comparisons: the part of evaluating a filter that does not depend on how values are stored."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_colours import Colours
from visualindex.ann.codes import Mask
from visualindex.filters import And, Colour, Filter, Leaf, Not, Or, colours_passing, most_passing


class TreeEvaluator(ABC):
    """Rows of a filter tree from the rows of its comparisons."""

    @abstractmethod
    def leaf_mask(self, leaf: Leaf, rows: int) -> Mask:
        """Which of the first `rows` rows pass one comparison, bool [rows]: an array of the caller's own."""

    @abstractmethod
    def leaf_bounds(self, leaf: Leaf) -> tuple[int, int]:
        """Least and most rows that one comparison can pass."""

    @abstractmethod
    def leaf_matching(self, leaf: Leaf, rows: int, most: int) -> NDArray[np.int64] | None:
        """The rows of one comparison in ascending order, or None when that takes long or they are more than `most`."""

    @abstractmethod
    def leaf_holds(self, leaf: Leaf, rows: NDArray[np.int64]) -> Mask:
        """Which of these rows (ascending row numbers, int64 [m]) pass one comparison, bool [m]."""

    @abstractmethod
    def colours(self, rows: int) -> Colours:
        """The colours of the first `rows` rows, uint8 [rows, 5, 4]."""

    @property
    @abstractmethod
    def colours_by_cell(self) -> NDArray[np.int64]:
        """How many colours of the rows lie in each of the palette's cells, int64 [32768]."""

    @property
    @abstractmethod
    def row_count(self) -> int:
        """Rows there are, with attributes or without."""

    def mask(self, tree: Filter, rows: int) -> Mask:
        """Which of the first `rows` rows pass the filter, bool [rows]."""
        match tree:
            case And(terms=terms):
                found = np.ones(rows, np.bool_)
                for term in terms:
                    found &= self.mask(term, rows)
                return found
            case Or(terms=terms):
                found = np.zeros(rows, np.bool_)
                for term in terms:
                    found |= self.mask(term, rows)
                return found
            case Not(term=term):
                return ~self.mask(term, rows)
            case Colour():
                return colours_passing(tree, self.colours(rows))
        return self.leaf_mask(tree, rows)

    def holding(self, tree: Filter, rows: NDArray[np.int64]) -> Mask:
        """Which of these rows (ascending row numbers, int64 [m]) pass the filter, bool [m]; others are not looked at."""
        match tree:
            case And(terms=terms):
                found = np.ones(len(rows), np.bool_)
                for term in terms:
                    found[found] = self.holding(term, rows[found])
                return found
            case Or(terms=terms):
                found = np.zeros(len(rows), np.bool_)
                for term in terms:
                    found[~found] = self.holding(term, rows[~found])
                return found
            case Not(term=term):
                return ~self.holding(term, rows)
            case Colour():
                return colours_passing(tree, self.colours(int(rows[-1]) + 1 if len(rows) else 0)[rows])
        return self.leaf_holds(tree, rows)

    def estimate(self, tree: Filter) -> tuple[int, int]:
        """Least and most rows that can pass, without looking at rows.

        The bounds of `and` and `or` are Fréchet's: they hold however the terms depend on each other.
        """
        count = self.row_count
        match tree:
            case And(terms=terms):
                bounds = [self.estimate(term) for term in terms]
                least = sum(low for low, _ in bounds) - max(0, len(bounds) - 1) * count
                return (max(0, least), min(high for _, high in bounds)) if bounds else (count, count)
            case Or(terms=terms):
                bounds = [self.estimate(term) for term in terms]
                return max((low for low, _ in bounds), default=0), min(count, sum(high for _, high in bounds))
            case Not(term=term):
                low, high = self.estimate(term)
                return max(0, count - high), max(0, count - low)
            case Colour():
                return 0, min(count, most_passing(tree, self.colours_by_cell))
        return self.leaf_bounds(tree)

    def matching(self, tree: Filter, rows: int, most: int) -> NDArray[np.int64] | None:
        """The passing rows below `rows`, ascending, int64 [m], if m is at most `most` and no pass over all rows is needed.

        None otherwise: then a mask tells. Of an `and` the rarest term gives candidates and the others are asked about
        those alone; of an `or` every term must be rare.
        """
        found = self._matching(tree, rows, most)
        return found if found is not None and len(found) <= most else None

    def _matching(self, tree: Filter, rows: int, most: int) -> NDArray[np.int64] | None:
        match tree:
            case And(terms=terms):
                return self._rarest_first(terms, rows, most)
            case Or(terms=terms):
                parts = [self._matching(term, rows, most) for term in terms]
                whole = [part for part in parts if part is not None]
                if len(whole) < len(parts):
                    return None
                return np.unique(np.concatenate([np.zeros(0, np.int64), *whole]))
            case Not() | Colour():
                return None
        return self.leaf_matching(tree, rows, most)

    def _rarest_first(self, terms: tuple[Filter, ...], rows: int, most: int) -> NDArray[np.int64] | None:
        ordered = sorted(terms, key=lambda term: self.estimate(term)[1])
        # Candidates may be more than what is left of them; asking about each costs little.
        for at, term in enumerate(ordered):
            candidates = self._matching(term, rows, most * 4)
            if candidates is not None:
                others = And((*ordered[:at], *ordered[at + 1 :]))
                return candidates[self.holding(others, candidates)]
        return None
