"""Comparisons of declared attributes, read into comparisons of the fields below them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from visualindex.colours import NAMES
from visualindex.filters._colour import colour_of, is_colour
from visualindex.filters._instants import HOW_TO_WRITE, Span, moment, united
from visualindex.filters._schema import Attribute
from visualindex.filters._tree import Eq, Filter, In, Or, Prefix, Within


class Refuse(Protocol):
    """Raise the problem of one part of a filter."""

    def __call__(self, pointer: str, detail: str) -> NoReturn: ...


_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "keyword": ("eq", "in", "prefix"),
    "tags": ("eq", "in", "prefix"),
    "path": ("eq", "in", "prefix"),
    "number": ("eq", "in", "range"),
    "boolean": ("eq", "in"),
    "time": ("eq", "in", "range"),
    "colour": ("eq", "in"),
}
_A: Mapping[str, str] = {
    "keyword": "a keyword",
    "tags": "a list of tags",
    "path": "a path",
    "number": "a number",
    "boolean": "a boolean",
    "time": "a time",
    "colour": "a colour",
}


def operators_of(attribute: Attribute) -> tuple[str, ...]:
    """The comparisons that an attribute's type has."""
    return (*_OPERATORS[attribute.type], "exists")


def described(attribute: Attribute) -> str:
    """How an error begins that is about an attribute."""
    return f"{attribute.name} is {_A[attribute.type]}"


@dataclass(frozen=True)
class TypedReader:
    """Reads what the operators say of declared attributes; `now` is the instant that relative times count from."""

    refuse: Refuse
    now: int

    def check(self, attribute: Attribute, value: Any, pointer: str) -> None:
        """Refuse an operand of another type than the attribute."""
        expected, fits = _OPERANDS[attribute.type]
        if not fits(value):
            self.refuse(pointer, f"{described(attribute)}: {expected}, got {value!r:.60}")

    def rewritten(self, attribute: Attribute, tree: Filter, pointer: str) -> Filter:
        """The comparison of a path or a time, whose meaning is not that of the bare values; others as they are."""
        match attribute.type:
            case "path":
                return _below(attribute, tree)
            case "colour":
                return _coloured(tree)
            case "time":
                return self._timely(attribute, tree, pointer)
        return tree

    def span(self, attribute: Attribute, operand: Any, pointer: str) -> tuple[int, int]:
        """What a time operand stands for."""
        found = moment(operand, self.now)
        if found is None or found[0] is None or found[1] is None:
            self.refuse(
                pointer,
                f"{attribute.name} is a time, and {operand!r:.60} is none: {HOW_TO_WRITE}, or relative: now-7d",
            )
        return found[0], found[1]

    def _timely(self, attribute: Attribute, tree: Filter, pointer: str) -> Filter:
        match tree:
            case Eq(value=value):
                spans: list[Span] = [self.span(attribute, value, pointer)]
            case In(values=values):
                spans = [self.span(attribute, value, f"{pointer}/{at}") for at, value in enumerate(values)]
            case _:
                return tree
        return Within(attribute.field, united(spans))

    def period(self, attribute: Attribute, bounds: Mapping[str, Any], pointer: str) -> Filter:
        """The range of a time: a day as a bound is in or out as a whole."""
        start: int | None = None
        stop: int | None = None
        for name, bound in bounds.items():
            first, behind = self.span(attribute, bound, f"{pointer}/{name}")
            if name in ("gt", "gte"):
                low = first if name == "gte" else behind
                start = low if start is None else max(start, low)
            else:
                high = first if name == "lt" else behind
                stop = high if stop is None else min(stop, high)
        return Within(attribute.field, united([(start, stop)]))


def _below(attribute: Attribute, tree: Filter) -> Filter:
    """A node of a hierarchy stands for itself and all below it."""
    match tree:
        case Eq(field=field, value=value):
            return Or((tree, Prefix(field, f"{value}{attribute.separator}")))
        case In(field=field, values=values):
            return Or((tree, *(Prefix(field, f"{value}{attribute.separator}") for value in values)))
    return tree


def _coloured(tree: Filter) -> Filter:
    """A colour is looked for among those of the picture."""
    match tree:
        case Eq(value=value):
            return colour_of(str(value))
        case In(values=values):
            return Or(tuple(colour_of(str(value)) for value in values))
    return tree


_OPERANDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "keyword": ("compare it with a string", lambda value: isinstance(value, str)),
    "tags": ("compare it with a string", lambda value: isinstance(value, str)),
    "path": ("compare it with a string", lambda value: isinstance(value, str)),
    "number": (
        "compare it with a number, without quotes",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    ),
    "boolean": ("compare it with true or false", lambda value: isinstance(value, bool)),
    "colour": (f"compare it with one of {', '.join(NAMES)}, or with a colour like '#aa3322'", is_colour),
    "time": (
        "compare it with a date, a date-time or seconds since 1970",
        lambda value: isinstance(value, str | int | float) and not isinstance(value, bool),
    ),
}
