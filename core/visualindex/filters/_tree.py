"""The filter as a tree of values: what the parser makes and what every evaluator reads."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from visualindex.filters._colour import Colour
from visualindex.filters._instants import Span, written

Scalar: TypeAlias = str | int | float | bool
"""A JSON value that can be compared. Booleans are no numbers here: `true` never equals `1`."""


@dataclass(frozen=True)
class And:
    """Every term holds; without terms it always holds."""

    terms: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """At least one term holds."""

    terms: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The term does not hold."""

    term: "Filter"


@dataclass(frozen=True)
class Eq:
    """A value of the field equals `value`."""

    field: str
    value: Scalar


@dataclass(frozen=True)
class In:
    """A value of the field equals one of `values`."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Range:
    """One value of the field lies within all given bounds: numbers with numbers, strings by code point."""

    field: str
    gt: Scalar | None = None
    gte: Scalar | None = None
    lt: Scalar | None = None
    lte: Scalar | None = None

    def bounds(self) -> dict[str, Scalar]:
        """The bounds that are set, by operator name."""
        named = {"gt": self.gt, "gte": self.gte, "lt": self.lt, "lte": self.lte}
        return {name: bound for name, bound in named.items() if bound is not None}


@dataclass(frozen=True)
class Exists:
    """The field holds something other than null or an empty list."""

    field: str


@dataclass(frozen=True)
class Prefix:
    """A string value of the field starts with `prefix`, compared by code point."""

    field: str
    prefix: str


@dataclass(frozen=True)
class Within:
    """A value of the field is a point in time (`instant`) in one of the spans: ascending, with gaps between them."""

    field: str
    spans: tuple[Span, ...]

    def holds(self, at: int | None) -> bool:
        """Whether an instant is in one of the spans."""
        return at is not None and any(
            (start is None or start <= at) and (stop is None or at < stop) for start, stop in self.spans
        )


Leaf: TypeAlias = Eq | In | Range | Exists | Prefix | Within
"""A comparison of one field. `matches`, `to_json`, `to_text` and, for the shards, `ann.attribute_column.Column.runs` and its
counterpart in `ann.attributes` say what each kind means."""

Filter: TypeAlias = And | Or | Not | Colour | Leaf

EVERYTHING = And(())
"""The filter every image passes."""


def conjoin(first: Filter | None, second: Filter | None) -> Filter:
    """The filter that passes what both pass: no request can widen the filter its key carries."""
    terms = [term for side in (first, second) if side is not None for term in _conjuncts(side)]
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _conjuncts(tree: Filter) -> tuple[Filter, ...]:
    return tree.terms if isinstance(tree, And) else (tree,)


def to_json(tree: Filter) -> dict[str, Any]:
    """The filter as JSON in canonical form: one operator per object. `parse_filter` reads it back as an equal tree."""
    match tree:
        case And(terms=terms):
            return {"and": [to_json(term) for term in terms]} if terms else {}
        case Or(terms=terms):
            return {"or": [to_json(term) for term in terms]}
        case Not(term=term):
            return {"not": to_json(term)}
        case Colour():
            return {"colour": tree.document()}
        case Eq(field=field, value=value):
            return {"eq": {field: value}}
        case In(field=field, values=values):
            return {"in": {field: list(values)}}
        case Range(field=field):
            return {"range": {field: tree.bounds()}}
        case Exists(field=field):
            return {"exists": field}
        case Prefix(field=field, prefix=prefix):
            return {"prefix": {field: prefix}}
        case Within(field=field, spans=spans):
            return {"within": {field: [[_written(start), _written(stop)] for start, stop in spans]}}


def _written(at: int | None) -> str | None:
    return None if at is None else written(at)
