"""What one search asks of a shard, and what the shard finds: hits in order, with what ordered them, and counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from visualindex.ann.attributes import Key
from visualindex.ann.hits import Hits
from visualindex.ann.searching import PartPlan
from visualindex.filters import Filter

Direction = Literal["asc", "desc"]
MAX_FACET_VALUES = 10_000
"""Values of a field that one shard tells; of more, the most frequent. Sums over shards are exact up to here."""


@dataclass(frozen=True)
class Grouping:
    """At most `size` hits for each value of a field; an image without the field is a group of its own."""

    field: str
    size: int = 1


@dataclass(frozen=True)
class Sorting:
    """Hits in the order of a field's value instead of their score; images without the field come last.

    `after` continues behind the hit with that value (None: without one) and id. With `times`, values count as points in
    time, however they are written: microseconds since 1970, which they are given as.
    """

    field: str
    direction: Direction = "asc"
    after: tuple[Key | None, bytes] | None = None
    times: bool = False


@dataclass(frozen=True)
class Ask:
    """A search of one shard."""

    k: int
    filter: Filter | None = None
    exclude: tuple[bytes, ...] = ()
    """Image ids of 16 bytes that are never hits."""
    min_score: float | None = None
    facets: tuple[str, ...] = ()
    group: Grouping | None = None
    sort: Sorting | None = None


@dataclass(frozen=True)
class Looked:
    """What a shard found."""

    hits: Hits
    keys: tuple[Key | None, ...] = ()
    """For one query: the value that grouped or sorted each hit; empty without grouping and sorting."""
    facets: Mapping[str, Mapping[Key, int]] = field(default_factory=dict)
    """Matching images by value, of each field that was asked for."""
    plans: tuple[PartPlan, ...] = ()

    @property
    def matches(self) -> int:
        """Images that pass the filter."""
        return sum(plan.matches for plan in self.plans)
