"""The filter language: which images of an index a search may return."""

from visualindex.filters._evaluate import matches, values_at
from visualindex.filters._parse import MAX_IN_VALUES, MAX_TEXT, parse_filter
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
    conjoin,
    to_json,
)

__all__ = [
    "EVERYTHING",
    "MAX_IN_VALUES",
    "MAX_TEXT",
    "And",
    "Eq",
    "Exists",
    "Filter",
    "In",
    "Not",
    "Or",
    "Prefix",
    "Range",
    "Scalar",
    "conjoin",
    "matches",
    "parse_filter",
    "to_json",
    "values_at",
]
