"""Every mistake of a document in one go.

Pydantic asks for the rules between the fields of a section once its fields are right, stops at the first that is broken,
and then asks nothing of the sections around it. So what was found wrong is left out of the document, which is read again,
until nothing more comes to light.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from visualindex.spec.domains import domain_mistakes
from visualindex.spec.fields import model_at
from visualindex.spec.models import VisualIndex
from visualindex.spec.problems import Location, describe

_NAMED = {"name": "x"}
"""Metadata in place of wrong ones."""
_OF_DOMAINS = ("attributes", "limits")
"""Sections without which it is not known whether domains are right."""


def read(document: Any) -> tuple[VisualIndex | None, list[tuple[Location, str]]]:
    """The spec that a mapping of plain JSON values states, and the place of each mistake in it and what to do about it.

    With mistakes the spec is None, or what is left without them.
    """
    mistakes: dict[tuple[Location, str], None] = {}
    left_out: set[Location] = set()
    rest = copy.deepcopy(document)
    while True:
        try:
            spec = _validated(rest)
        except ValidationError as error:
            details = error.errors(include_url=False)
            mistakes |= dict.fromkeys(_told(details, left_out))
            removed = {path for item in details if (path := _leave_out(rest, item)) is not None}
            if not removed:
                return None, list(mistakes)
            left_out |= removed
        else:
            if not any(path[1:2] and path[1] in _OF_DOMAINS for path in left_out):
                mistakes |= dict.fromkeys(domain_mistakes(spec.spec))
            return spec, list(mistakes)


def _validated(document: Any) -> VisualIndex:
    # JSON mode takes lists for tuples yet no text for numbers: just what the CRD's schema accepts.
    return VisualIndex.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)


def _told(details: list[ErrorDetails], left_out: set[Location]) -> Iterator[tuple[Location, str]]:
    """What the errors say; of a document that lacks something, broken rules alone, and none that speaks of what it lacks."""
    lacking = {str(path[-1]) for path in left_out}
    for item in details:
        if left_out and item["type"] != "value_error":
            continue
        for text in _texts(item):
            if not lacking & set(re.findall(r"\w+", text)):
                yield item["loc"], text


def _texts(item: ErrorDetails) -> list[str]:
    model = model_at(VisualIndex, item["loc"])
    if item["type"] == "value_error" and model is not None and isinstance(item["input"], dict):
        return _broken_rules(model, item["input"]) or [describe(VisualIndex, item)]
    return [describe(VisualIndex, item)]


def _broken_rules(model: type[BaseModel], given: dict[str, Any]) -> list[str]:
    """Every rule of a section whose fields are right each for itself."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in given:
            kind = TypeAdapter[Any](Annotated[field.annotation, key, *field.metadata])  # type: ignore[arg-type]
            values[name] = kind.validate_json(
                json.dumps(given[key]), strict=True, by_alias=True, by_name=False
            )
    section, broken = model.model_construct(**values), []
    for decorator in model.__pydantic_decorators__.model_validators.values():
        try:
            decorator.func(section)
        except ValueError as error:
            broken.append(str(error))
    return broken


def _leave_out(document: Any, item: ErrorDetails) -> Location | None:
    """Take the nearest key that an error is about out of the document; None where there is none to take."""
    path = item["loc"][:-1] if item["type"] == "missing" else item["loc"]
    if path[:1] == ("metadata",) or (not path and "metadata" not in document):
        return None if document.get("metadata") == _NAMED else _renamed(document)
    while path and isinstance(path[-1], int):
        path = path[:-1]
    place = document
    try:
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]
    except (LookupError, TypeError):
        return None
    return path


def _renamed(document: dict[str, Any]) -> Location:
    document["metadata"] = dict(_NAMED)
    return ("metadata",)
