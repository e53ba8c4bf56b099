"""Declared attributes: names and types for what lies in an image's fields.

They are views. A filter over them is read into one over the fields themselves, so that shards need no declarations and
a changed one rebuilds nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self, TypeAlias

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters._evaluate import values_at
from visualindex.filters._instants import HOW_TO_WRITE, instant

_MAX_ERRORS = 20

AttributeType: TypeAlias = Literal["keyword", "tags", "number", "boolean", "time", "path", "colour"]
"""What the values of a declared attribute are."""


class Declared(Protocol):
    """A declaration, such as `spec.attributes` holds: hashable, with the members of `Attribute`."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> AttributeType: ...
    @property
    def field(self) -> str: ...
    @property
    def separator(self) -> str: ...


@dataclass(frozen=True)
class Attribute:
    """One declared attribute."""

    name: str
    type: AttributeType
    field: str
    """Where its values are: `category` or `metadata.<path>`."""
    separator: str
    """What stands between the levels of a path."""


@dataclass(frozen=True)
class Schema:
    """The declared attributes of an index, by name."""

    attributes: Mapping[str, Attribute]

    @classmethod
    def of(cls, declared: Iterable[Declared]) -> Self:
        """The attributes that `spec.attributes` declares."""
        found = (Attribute(one.name, one.type, one.field, one.separator) for one in declared)
        return cls(MappingProxyType({one.name: one for one in found}))

    def get(self, name: str) -> Attribute | None:
        """The attribute of that name."""
        return self.attributes.get(name)


NO_SCHEMA = Schema(MappingProxyType({}))
"""Nothing is declared."""


@lru_cache(maxsize=256)
def schema_of(declared: tuple[Declared, ...]) -> Schema:
    """`Schema.of`, remembered: a service asks for every request."""
    return Schema.of(declared)


def check_metadata(
    schema: Schema, metadata: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> None:
    """Refuse metadata in which a declared attribute has a value of another type; a missing one and null are fine.

    So is what was there `before`: a declaration that came later must not stand in the way of other changes.
    Raises `ProblemError(INVALID_REQUEST)` with the JSON pointer and the remedy of each such attribute.
    """
    errors = []
    for attribute in schema.attributes.values():
        kept = before is not None and _values(attribute, before) == _values(attribute, metadata)
        message = None if kept else _mistake(attribute, metadata)
        if message:
            path = attribute.field.replace("~", "~0").replace("/", "~1").replace(".", "/")
            errors.append({"pointer": f"/{path}", "message": message})
    if errors:
        detail = "; ".join(f"{error['pointer']}: {error['message']}" for error in errors[:3])
        raise ProblemError(ProblemType.INVALID_REQUEST, detail, extra={"errors": errors[:_MAX_ERRORS]})


def _mistake(attribute: Attribute, metadata: Mapping[str, Any]) -> str | None:
    if attribute.type not in _CHECKS or attribute.field == "category":
        return None  # the request's own model checks the category
    what, fits = _CHECKS[attribute.type]
    found = _values(attribute, metadata)
    wrong = next((value for value in found if not fits(value)), None)
    if wrong is not None:
        return f"{_shown(wrong)} is no {attribute.type} ({attribute.name} is declared so): {what}"
    if len(found) > 1 and attribute.type not in _MANY:
        return (
            f"{attribute.name} is declared a {attribute.type}, which has one value: give one, or declare tags"
        )
    return None


def _values(attribute: Attribute, metadata: Mapping[str, Any]) -> list[Any]:
    return [value for value in values_at({"metadata": metadata}, attribute.field) if value is not None]


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(_as_float(value))


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return 0.0  # an integer of any size is finite


_MANY = ("tags", "path")
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "keyword": ("give a string", lambda value: isinstance(value, str)),
    "tags": ("give a string or a list of strings", lambda value: isinstance(value, str)),
    "path": ("give a string or a list of strings", lambda value: isinstance(value, str)),
    "number": ("give a finite number, without quotes", _is_number),
    "boolean": ("give true or false, without quotes", lambda value: isinstance(value, bool)),
    "time": (HOW_TO_WRITE, lambda value: instant(value) is not None),
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
