"""Between the fields and values of requests and answers and those in messages to the shards."""

import difflib
from collections.abc import Iterable

from visualindex.api.search import GroupBy, SortBy
from visualindex.filters import Schema
from visualindex_serving.messages import Group, Sort, Value
from visualindex_serving.problems import invalid

_PLAIN = ("category", "key")


def field_of(name: str, schema: Schema, pointer: str) -> str:
    """The field that a request names: a declared attribute's, or one that is written as in a filter.

    Raises ProblemError INVALID_REQUEST at `pointer`.
    """
    declared = schema.get(name)
    if declared is not None:
        if declared.type == "colour":
            raise invalid(pointer, f"{name} is a colour, which has no values to count, group or order by")
        return declared.field
    if name in _PLAIN or (name.startswith("metadata.") and all(name.split("."))):
        return name
    known = [*_PLAIN, *schema.attributes]
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)} or metadata.<path>"
    raise invalid(pointer, f"unknown field {name[:80]!r}: {remedy}")


def counted(names: Iterable[str], schema: Schema) -> dict[str, str]:
    """The field to count for each name of a request. Raises as `field_of`."""
    return {name: field_of(name, schema, f"/facets/{place}") for place, name in enumerate(names)}


def grouping(asked: GroupBy | None, schema: Schema) -> Group | None:
    """The grouping as the shards take it. Raises as `field_of`."""
    return None if asked is None else Group(field_of(asked.field, schema, "/group_by/field"), asked.size)


def sorting(asked: SortBy | None, schema: Schema) -> Sort | None:
    """The order of a first page as the shards take it. Raises as `field_of`."""
    if asked is None:
        return None
    field = field_of(asked.field, schema, "/sort/field")
    return Sort(field, asked.order, times=is_time(field, schema))


def is_time(field: str, schema: Schema) -> bool:
    """Whether an attribute declares that the field's values are points in time."""
    return any(one.field == field and one.type == "time" for one in schema.attributes.values())


def shown(value: Value) -> str | int | float | bool:
    """A value as JSON has it."""
    return value[1] if isinstance(value, tuple) else value
