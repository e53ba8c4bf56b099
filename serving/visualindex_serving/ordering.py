"""Between the values of attributes in requests and answers and those in messages to the shards."""

from visualindex.api.search import GroupBy, SortBy
from visualindex_serving.messages import Group, Sort, Value


def grouping(asked: GroupBy | None) -> Group | None:
    """The grouping as the shards take it."""
    return None if asked is None else Group(asked.field, asked.size)


def sorting(asked: SortBy | None) -> Sort | None:
    """The order of a first page as the shards take it."""
    return None if asked is None else Sort(asked.field, asked.order)


def shown(value: Value) -> str | int | float | bool:
    """A value as JSON has it."""
    return value[1] if isinstance(value, tuple) else value
