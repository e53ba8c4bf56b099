"""Filters that were accepted: the canonical spelling, with domains and paths written out, is larger than what callers wrote.

What is accepted for the first page must be readable wherever it goes from there: beside a key's filter, in shards, and in
the cursor of the next page.
"""

from typing import Any

import orjson

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import Filter, parse_filter

MAX_TERMS = 1024
"""Comparisons that shards read."""
_FOR_KEYS = 128
"""Of these, for the filter of a key."""
_MAX_DEPTH = 64
_BYTES = 64 * 1024
_SMALL_BYTES = 4 * 1024
"""No filter of this size has as many comparisons: it need not be read again to be sure."""


def reread(canonical: Any) -> Filter:
    """A filter that was accepted. Raises ProblemError INVALID_FILTER for one that cannot have been."""
    return parse_filter(canonical, max_depth=_MAX_DEPTH, max_terms=MAX_TERMS)


def check_size(canonical: dict[str, Any]) -> None:
    """Raise ProblemError INVALID_FILTER for a canonical filter that would be refused later on its way."""
    size = len(orjson.dumps(canonical))
    if size > _BYTES:
        raise _too_large(f"{_BYTES} bytes; list fewer values")
    if size > _SMALL_BYTES:
        most = MAX_TERMS - _FOR_KEYS
        try:
            parse_filter(canonical, max_depth=_MAX_DEPTH // 2, max_terms=most)
        except ProblemError as problem:
            what = f"{most} comparisons, once its domains and paths are written out; name fewer of them"
            raise _too_large(what) from problem


def _too_large(what: str) -> ProblemError:
    detail = f"The filter is larger than {what}."
    return ProblemError(ProblemType.INVALID_FILTER, detail, extra={"pointer": ""})
