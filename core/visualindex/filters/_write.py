"""Filters written in the short text form."""

import json
import re

from visualindex.filters._colour import Colour
from visualindex.filters._instants import Span, written
from visualindex.filters._tree import (
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

_PLAIN = re.compile(r"[^\W\d][\w-]*(?:\.[\w-]+)*")
_MIRRORED = {"gt": "<", "gte": "<="}
_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def to_text(tree: Filter) -> str:
    """The filter in the short text form. `parse_filter_text` reads it back as a filter that passes the same images.

    It is the same tree, but for an `and` or `or` of one term, which is that term, and the weaker of two bounds on one
    side, which says nothing. The filter that passes everything is an empty text, and has none inside another.
    """
    match tree:
        case And(terms=terms):
            return " and ".join(_grouped(term) for term in terms)
        case Or(terms=terms):
            return " or ".join(_grouped(term) for term in terms)
        case Not(term=Eq(field=field, value=value)):
            return f"{_field(field)} != {_value(value)}"
        case Not(term=In(field=field, values=values)):
            return f"{_field(field)} not in ({_values(values)})"
        case Not(term=term):
            return f"not {_grouped(term)}"
        case Colour(name=name, near=near, within=within, min_share=share):
            near_by = "" if near is None else f", {_value(within)}"
            return f"colour({_value(name or near or '')}{near_by}, {_value(share)})"
        case Eq(field=field, value=value):
            return f"{_field(field)} = {_value(value)}"
        case In(field=field, values=values):
            return f"{_field(field)} in ({_values(values)})"
        case Range():
            return _range(tree)
        case Exists(field=field):
            return f"exists({_field(field)})"
        case Prefix(field=field, prefix=prefix):
            return f"{_field(field)} ^= {_value(prefix)}"
        case Within(field=field, spans=spans):
            return f"{_field(field)} within ({', '.join(_span(span) for span in spans)})"


def _grouped(term: Filter) -> str:
    return f"({to_text(term)})" if isinstance(term, And | Or) else to_text(term)


def _field(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def _values(values: tuple[Scalar, ...]) -> str:
    return ", ".join(_value(value) for value in values)


def _value(value: Scalar) -> str:
    return json.dumps(value, ensure_ascii=False)


def _range(tree: Range) -> str:
    bounds = tree.bounds()
    low = _stronger(bounds, "gt", "gte", max)
    high = _stronger(bounds, "lt", "lte", min)
    if low and high:
        return f"{_value(bounds[low])} {_MIRRORED[low]} {_field(tree.field)} {_SIGNS[high]} {_value(bounds[high])}"
    only = low or high or ""
    return f"{_field(tree.field)} {_SIGNS[only]} {_value(bounds[only])}"


def _stronger(bounds: dict[str, Scalar], strict: str, loose: str, choose: object) -> str | None:
    """Of two bounds on one side the one that the other follows from."""
    if strict in bounds and loose in bounds:
        a, b = bounds[strict], bounds[loose]
        tighter = b > a if choose is max else b < a  # type: ignore[operator]
        return loose if tighter else strict
    return strict if strict in bounds else loose if loose in bounds else None


def _span(span: Span) -> str:
    start, stop = ("" if end is None else f'"{written(end)}"' for end in span)
    return f"{start}..{stop}"
