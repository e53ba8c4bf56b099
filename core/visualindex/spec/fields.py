"""The fields of the spec as data: what the written reference and the hints in errors are made of."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class SpecField:
    """One key of the spec."""

    path: str
    """Dotted camelCase path such as `spec.index.hnsw.efSearch`."""
    info: FieldInfo
    section: type[BaseModel] | None
    """The model below this key, when the key opens a section."""


def fields_by_key(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The fields of a model under the keys that YAML uses."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def section_of(info: FieldInfo) -> type[BaseModel] | None:
    """The model a field holds, also behind `| None` or in a list; None for a plain value."""
    return _model_in(info.annotation)


def model_at(root: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model at a validation error's location, or None when the location leads to no section."""
    model: type[BaseModel] | None = root
    for key in location:
        if isinstance(key, int):
            continue  # an element of a list: its model is the list's
        info = fields_by_key(model).get(str(key)) if model else None
        model = section_of(info) if info else None
    return model


def walk_fields(model: type[BaseModel], prefix: str = "") -> Iterator[SpecField]:
    """Every field below `model`, sections before their own fields, in the order of the models."""
    for key, info in fields_by_key(model).items():
        field = SpecField(f"{prefix}{key}", info, section_of(info))
        yield field
        if field.section:
            yield from walk_fields(field.section, f"{field.path}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return next((found for arm in get_args(annotation) if (found := _model_in(arm))), None)
    return None
