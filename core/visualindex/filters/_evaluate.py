"""What a filter means, on one image at a time: the reference every faster evaluator must agree with."""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from visualindex.filters._colour import FIELD, Colour, colour_matches
from visualindex.filters._instants import instant
from visualindex.filters._tree import And, Eq, Exists, Filter, In, Not, Or, Prefix, Range, Scalar, Within

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def matches(tree: Filter, attributes: Mapping[str, Any]) -> bool:
    """Whether an image with `attributes` (`category`, `key`, `metadata`, `colours`) passes the filter."""
    match tree:
        case And(terms=terms):
            return all(matches(term, attributes) for term in terms)
        case Or(terms=terms):
            return any(matches(term, attributes) for term in terms)
        case Not(term=term):
            return not matches(term, attributes)
        case Colour():
            return colour_matches(tree, attributes.get(FIELD) or ())
        case Exists(field=field):
            return any(value is not None for value in values_at(attributes, field))
        case Eq(field=field, value=wanted):
            return any(_equal(value, wanted) for value in values_at(attributes, field))
        case In(field=field, values=wanted_values):
            found = list(values_at(attributes, field))
            return any(_equal(value, wanted) for value in found for wanted in wanted_values)
        case Range(field=field):
            return any(_within(value, tree.bounds()) for value in values_at(attributes, field))
        case Prefix(field=field, prefix=prefix):
            found = list(values_at(attributes, field))
            return any(isinstance(value, str) and value.startswith(prefix) for value in found)
        case Within(field=field):
            return any(tree.holds(instant(value)) for value in values_at(attributes, field))


def values_at(node: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path: of a list each element, of an object the object itself.

    A dot in the path may also be part of a key: `a.b` reaches both `{"a": {"b": 1}}` and `{"a.b": 1}`.
    """
    pending: list[tuple[Any, str]] = [(node, path)]
    while pending:
        here, rest = pending.pop()
        if isinstance(here, list):
            pending.extend((element, rest) for element in here)
        elif not rest:
            yield here
        elif isinstance(here, Mapping):
            pending.extend((value, rest[len(key) + 1 :]) for key, value in here.items() if _leads(key, rest))


def _leads(key: str, path: str) -> bool:
    return bool(key) and (path == key or path.startswith(key + "."))


def _equal(value: Any, wanted: Scalar) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return isinstance(value, str | int | float) and value == wanted


def _within(value: Any, bounds: Mapping[str, Scalar]) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return all(
        isinstance(value, str) == isinstance(bound, str) and _COMPARE[name](value, bound)
        for name, bound in bounds.items()
    )
