"""From a caller's JSON to a filter tree, refusing with a pointer to the part that is wrong."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters._colour import ANY_COLOUR, WrongColour, read_colour
from visualindex.filters._instants import HOW_TO_WRITE, Span, instant, present, united
from visualindex.filters._schema import NO_SCHEMA, Attribute, Schema
from visualindex.filters._tree import (
    EVERYTHING,
    And,
    Eq,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Prefix,
    Range,
    Scalar,
    Within,
)
from visualindex.filters._typed import TypedReader, described, operators_of

MAX_IN_VALUES = 1024
"""Most values one `in` may list."""

MAX_TEXT = 1024
"""Most characters of one string or field path in a filter."""

_BOUNDS = ("gt", "gte", "lt", "lte")
_METADATA = "metadata."
_MAX_NAMES = 20


def parse_filter(
    document: Any,
    *,
    schema: Schema = NO_SCHEMA,
    now: int | None = None,
    max_depth: int = 8,
    max_terms: int = 64,
) -> Filter:
    """Read a filter document (the grammar is in docs/filters.md); `{}` passes everything.

    Names that `schema` declares may stand beside category, key and metadata.<path>; the tree has their fields only.
    Relative times count from the instant `now` (microseconds since 1970; default: the clock). `max_depth` bounds the
    nesting of `and`, `or` and `not`, `max_terms` the number of comparisons. Raises `ProblemError(INVALID_FILTER)`
    whose `pointer` member is the JSON pointer (RFC 6901) of the offending part.
    """
    if document == {} and isinstance(document, dict):
        return EVERYTHING
    typed = TypedReader(_refuse, present() if now is None else now)
    return _Parser(schema, typed, max_depth, max_terms).condition(document, "", 1)


class FieldError(ProblemError):
    """A refusal whose pointer stands for the name of a field, not for what it is compared with."""


def _refuse_field(pointer: str, detail: str) -> NoReturn:
    raise FieldError(ProblemType.INVALID_FILTER, wrong_at(pointer) + detail, extra={"pointer": pointer})


def wrong_at(pointer: str) -> str:
    """How the detail of a refusal begins."""
    return f"The filter is wrong {f'at {pointer}' if pointer else 'at the top'}: "


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise ProblemError(ProblemType.INVALID_FILTER, wrong_at(pointer) + detail, extra={"pointer": pointer})


def _step(pointer: str, part: str | int) -> str:
    escaped = str(part).replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{escaped}"


@dataclass
class _Parser:
    schema: Schema
    typed: TypedReader
    max_depth: int
    max_terms: int
    terms: int = 0

    def condition(self, node: Any, pointer: str, depth: int) -> Filter:
        """One object of operators; several operators in it must all hold."""
        if depth > self.max_depth:
            _refuse(pointer, f"it nests deeper than {self.max_depth} levels; flatten it")
        if not isinstance(node, dict):
            _refuse(pointer, f"expected an object like {{'eq': {{'category': 'Bed'}}}}, got {_kind(node)}")
        if not node:
            _refuse(pointer, f"the object is empty; name an operator: {', '.join(_OPERATORS)}")
        found = [self.operator(name, operand, _step(pointer, name), depth) for name, operand in node.items()]
        return found[0] if len(found) == 1 else And(tuple(found))

    def operator(self, name: Any, operand: Any, pointer: str, depth: int) -> Filter:
        match name:
            case "and":
                return And(self.conditions(operand, pointer, depth))
            case "or":
                return Or(self.conditions(operand, pointer, depth))
            case "not":
                return Not(self.condition(operand, pointer, depth + 1))
            case "exists":
                self.count(pointer)
                attribute = self.declared(operand)
                if attribute and attribute.type == "colour":
                    return ANY_COLOUR
                return Exists(attribute.field if attribute else _field(operand, pointer, self.schema))
            case "colour":
                self.count(pointer)
                return _colour(operand, pointer)
        if name not in _COMPARISONS:
            _refuse(pointer, f"unknown operator {_shown(name)}; use one of: {', '.join(_OPERATORS)}")
        return self.comparisons(_COMPARISONS[name], name, operand, pointer)

    def conditions(self, nodes: Any, pointer: str, depth: int) -> tuple[Filter, ...]:
        if not isinstance(nodes, list) or not nodes:
            _refuse(pointer, f"expected a list of at least one condition, got {_kind(nodes)}")
        return tuple(self.condition(node, _step(pointer, at), depth + 1) for at, node in enumerate(nodes))

    def comparisons(
        self, read: Callable[[str, Any, str], Filter], name: str, operand: Any, pointer: str
    ) -> Filter:
        """The fields of one comparison operator; several fields must all hold."""
        if not isinstance(operand, dict) or not operand:
            _refuse(pointer, f"{name} needs an object from field to operand, got {_kind(operand)}")
        found = []
        for field, value in operand.items():
            at = _step(pointer, field)
            self.count(at)
            attribute = self.declared(field)
            if attribute is None:
                found.append(read(_field(field, at, self.schema), value, at))
            else:
                found.append(self.declared_comparison(attribute, read, name, value, at))
        return found[0] if len(found) == 1 else And(tuple(found))

    def declared(self, name: Any) -> Attribute | None:
        return self.schema.get(name) if isinstance(name, str) else None

    def declared_comparison(
        self,
        attribute: Attribute,
        read: Callable[[str, Any, str], Filter],
        name: str,
        operand: Any,
        pointer: str,
    ) -> Filter:
        """A comparison of a declared attribute: like that of its field, but of the right type."""
        if name not in operators_of(attribute):
            allowed = " or ".join(operators_of(attribute))
            _refuse_field(pointer, f"{described(attribute)}, which has no {name}; use {allowed}")
        if name == "range" and attribute.type == "time":
            return self.typed.period(attribute, _bounds(operand, pointer), pointer)
        tree = read(attribute.field, operand, pointer)  # refuses what is no operand at all
        for at, value in _parts(operand, pointer):
            self.typed.check(attribute, value, at)
        if attribute.type in ("path", "colour") and isinstance(tree, In):
            for at, _ in _parts(operand, pointer)[1:]:  # each is a comparison of its own in the end
                self.count(at)
        return self.typed.rewritten(attribute, tree, pointer)

    def count(self, pointer: str) -> None:
        self.terms += 1
        if self.terms > self.max_terms:
            _refuse(
                pointer,
                f"it has more than {self.max_terms} comparisons; use 'in' for many values of one field",
            )


def _eq(field: str, value: Any, pointer: str) -> Filter:
    return Eq(field, _scalar(value, pointer))


def _in(field: str, values: Any, pointer: str) -> Filter:
    if not isinstance(values, list) or not values:
        _refuse(pointer, f"expected a list of at least one value, got {_kind(values)}")
    if len(values) > MAX_IN_VALUES:
        _refuse(pointer, f"the list has {len(values)} values; at most {MAX_IN_VALUES} are allowed")
    return In(field, tuple(_scalar(value, _step(pointer, at)) for at, value in enumerate(values)))


def _parts(operand: Any, pointer: str) -> list[tuple[str, Any]]:
    """The values that an operand has, each with its place."""
    if isinstance(operand, dict | list):
        pairs = operand.items() if isinstance(operand, dict) else enumerate(operand)
        return [(_step(pointer, at), value) for at, value in pairs]
    return [(pointer, operand)]


def _range(field: str, bounds: Any, pointer: str) -> Filter:
    if len({isinstance(bound, str) for bound in _bounds(bounds, pointer).values()}) > 1:
        _refuse(pointer, "the bounds mix numbers and strings; use one kind")
    return Range(field, **bounds)


def _bounds(bounds: Any, pointer: str) -> dict[str, Scalar]:
    if not isinstance(bounds, dict) or not bounds:
        _refuse(pointer, f"expected an object with bounds {', '.join(_BOUNDS)}, got {_kind(bounds)}")
    for name, bound in bounds.items():
        if name not in _BOUNDS:
            _refuse(_step(pointer, name), f"unknown bound {_shown(name)}; use one of: {', '.join(_BOUNDS)}")
        if isinstance(_scalar(bound, _step(pointer, name)), bool):
            _refuse(_step(pointer, name), "a bound must be a number or a string, got a boolean")
    return bounds


def _prefix(field: str, value: Any, pointer: str) -> Filter:
    if not isinstance(_scalar(value, pointer), str) or not value:
        _refuse(pointer, f"prefix needs a string that is not empty, got {_kind(value)}")
    return Prefix(field, value)


def _within(field: str, spans: Any, pointer: str) -> Filter:
    """The form that comparisons of times take between services."""
    if not isinstance(spans, list) or len(spans) > MAX_IN_VALUES:
        _refuse(pointer, f"expected a list of at most {MAX_IN_VALUES} [from, before], got {_kind(spans)}")
    return Within(field, united([_span(span, _step(pointer, at)) for at, span in enumerate(spans)]))


def _span(span: Any, pointer: str) -> Span:
    if not isinstance(span, list) or len(span) != 2:
        _refuse(pointer, f"expected [from, before], two times or null, got {_kind(span)}")
    ends = [None if end is None else instant(end) for end in span]
    for at, (given, found) in enumerate(zip(span, ends, strict=True)):
        if given is not None and found is None:
            _refuse(_step(pointer, at), f"{_shown(given)} is no time: {HOW_TO_WRITE}")
    return ends[0], ends[1]


def _colour(operand: Any, pointer: str) -> Filter:
    try:
        return read_colour(operand)
    except WrongColour as wrong:
        _refuse(_step(pointer, wrong.part) if wrong.part else pointer, wrong.detail)


_COMPARISONS: dict[str, Callable[[str, Any, str], Filter]] = {
    "eq": _eq,
    "in": _in,
    "range": _range,
    "prefix": _prefix,
    "within": _within,
}
_OPERATORS = ("and", "or", "not", *_COMPARISONS, "exists", "colour")


def _field(name: Any, pointer: str, schema: Schema) -> str:
    if not isinstance(name, str):
        _refuse(pointer, f"expected a field name, got {_kind(name)}")
    if len(name) > MAX_TEXT:
        _refuse_field(pointer, f"the field name has {len(name)} characters; at most {MAX_TEXT} are allowed")
    if name in ("category", "key") or (name.startswith(_METADATA) and all(name.split("."))):
        return name
    declared = "".join(f"{one}, " for one in sorted(schema.attributes)[:_MAX_NAMES])
    _refuse_field(pointer, f"unknown field {_shown(name)}; use {declared}category, key or metadata.<path>")


def _scalar(value: Any, pointer: str) -> Scalar:
    if value is None:
        _refuse(pointer, "null cannot be compared; use {'not': {'exists': FIELD}} for a missing value")
    if not isinstance(value, str | int | float | bool):
        _refuse(pointer, f"expected a string, a number or a boolean, got {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(pointer, "the number is not finite")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        _refuse(pointer, f"the string has {len(value)} characters; at most {MAX_TEXT} are allowed")
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "an object" if value else "an empty object"
    return type(value).__name__


def _shown(name: Any) -> str:
    text = repr(name)
    return text if len(text) <= 80 else text[:77] + "..."
