"""docs/spec.md, written from the models: `python -m visualindex.spec.reference > docs/spec.md`."""

import json
import sys
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from visualindex.spec.fields import fields_by_key, section_of
from visualindex.spec.models import VisualIndex
from visualindex.spec.quantities import format_bytes, parse_bytes
from visualindex.spec.rules import ON_KUBERNETES, OVER_TIME

_HEAD = """\
# The VisualIndex spec

One resource describes one index. The same file works for `visualindex up -f` on a laptop and for
`kubectl apply` on a cluster. Every key is optional unless it says **required**; the defaults serve a laptop.
An unknown key is an error. `visualindex validate FILE` checks files and reports every mistake with its line.
Byte sizes are written as a number or as a Kubernetes quantity (`512Mi`, `2Gi`, `1G`). Working files are in
[`examples/`](../examples). On Kubernetes (1.29 or newer) the API server stores the defaults in the resource, so that a
later release with other defaults changes no index that exists.

This page is written from the models by `python -m visualindex.spec.reference > docs/spec.md`.
"""


def reference() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD, *_section(VisualIndex, ""), *_kubernetes_rules()]
    return "\n".join(parts).rstrip("\n") + "\n"


def _kubernetes_rules() -> Iterator[str]:
    yield "## What Kubernetes refuses besides\n"
    yield "`visualindex up` knows no such rules: a laptop's address is loopback, and it serves what its files say now.\n"
    for groups in (ON_KUBERNETES, OVER_TIME):
        yield from (f"- {rule.message}." for rules in groups.values() for rule in rules)


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    yield f"## {f'`{path}`' if path else 'The resource'}\n\n{(model.__doc__ or '').strip()}\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    for key, info in fields_by_key(model).items():
        yield _row(f"{path}.{key}" if path else key, info)
    yield ""
    for key, info in fields_by_key(model).items():
        below = section_of(info)
        if below:
            yield from _section(below, f"{path}.{key}" if path else key)


def _row(path: str, info: FieldInfo) -> str:
    cells = (f"`{path}`", type_text(info), _default_text(info), (info.description or "").replace("|", "\\|"))
    return f"| {' | '.join(cells)} |"


def type_text(info: FieldInfo) -> str:
    """The type of a field in a reader's words, with its bounds: `integer, 1 to 64`."""
    if is_byte_size(info):
        return "byte size"
    bounds = {type(item): item for item in info.metadata if isinstance(item, Ge | Le)}
    low, high = bounds.get(Ge), bounds.get(Le)
    text = _type_name(info.annotation)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f"{text}, {low.ge:,} to {high.le:,}"
    return f"{text}, at least {low.ge:,}" if isinstance(low, Ge) else text


def is_byte_size(info: FieldInfo) -> bool:
    """Whether a field takes Kubernetes quantities of bytes."""
    return any(isinstance(item, BeforeValidator) and item.func is parse_bytes for item in info.metadata)


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_type_name(arm) for arm in get_args(annotation) if arm is not type(None))
    if get_origin(annotation) is dict:
        return "mapping"
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        many = "list" if items[-1] is ... else f"list of {len(items)}"
        return f"{many}: {_type_name(items[0])}"
    if get_origin(annotation) is not None and hasattr(annotation, "__metadata__"):
        return _type_name(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", Any: "text or section"}
    return names[annotation]


def _default_text(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.default
    if value is PydanticUndefined or value is None or isinstance(value, BaseModel):
        return ""
    if is_byte_size(info):
        return f"`{format_bytes(value)}`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`" if value else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
