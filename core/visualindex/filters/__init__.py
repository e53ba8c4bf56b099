"""The filter language: which images of an index a search may return."""

from visualindex.filters._colour import Colour, colours_passing, most_passing
from visualindex.filters._evaluate import matches, values_at
from visualindex.filters._instants import FIRST_INSTANT, LAST_INSTANT, Span, instant
from visualindex.filters._parse import MAX_IN_VALUES, MAX_TEXT, parse_filter
from visualindex.filters._schema import NO_SCHEMA, Attribute, Schema, check_metadata, schema_of
from visualindex.filters._text import MAX_TEXT_FORM, is_text_form, parse_filter_text, read_filter
from visualindex.filters._tree import (
    EVERYTHING,
    And,
    Eq,
    Exists,
    Filter,
    In,
    Leaf,
    Not,
    Or,
    Prefix,
    Range,
    Scalar,
    Within,
    conjoin,
    to_json,
)
from visualindex.filters._write import to_text

__all__ = [
    "EVERYTHING",
    "FIRST_INSTANT",
    "LAST_INSTANT",
    "MAX_IN_VALUES",
    "MAX_TEXT",
    "MAX_TEXT_FORM",
    "NO_SCHEMA",
    "And",
    "Attribute",
    "Colour",
    "Eq",
    "Exists",
    "Filter",
    "In",
    "Leaf",
    "Not",
    "Or",
    "Prefix",
    "Range",
    "Scalar",
    "Schema",
    "Span",
    "Within",
    "check_metadata",
    "colours_passing",
    "conjoin",
    "instant",
    "is_text_form",
    "matches",
    "most_passing",
    "parse_filter",
    "parse_filter_text",
    "read_filter",
    "schema_of",
    "to_json",
    "to_text",
    "values_at",
]
