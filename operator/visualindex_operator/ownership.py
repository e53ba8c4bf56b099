"""What somebody else set in an object of ours, by the API server's account of who set which field.

An addition to a mapping is in nobody's way when a manifest is applied again, and stays: `suspend: true` beside fields of
ours would end a cluster. Whoever set it is on record.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from visualindex_operator import names
from visualindex_operator.drift import lacks

Path = tuple[str, ...]
FOREIGN = "foreignPaths"
"""Where a copy of an object keeps the paths, in place of the whole account."""


def foreign_paths(body: Mapping[str, Any]) -> tuple[Path, ...]:
    """The fields below `spec` that managers other than the operator own, outermost first where a whole list is one."""
    paths = [
        path
        for entry in body["metadata"].get("managedFields") or []
        if entry.get("manager") != names.FIELD_MANAGER and not entry.get("subresource")
        for path in _leaves((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return tuple(sorted(set(paths)))


def set_by_others(present: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether one of these fields is not as the manifest has it, or is not in the manifest at all."""
    paths = present.get(FOREIGN) or foreign_paths(present)
    return any(_added(_at(present.get("spec"), path), _at(manifest.get("spec"), path)) for path in paths)


def _added(live: Any, wanted: Any) -> bool:
    return bool(live not in (None, "", [], {}) and lacks(wanted, live))


def _leaves(fields: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    below = {key[2:]: value for key, value in fields.items() if key.startswith("f:")}
    if not below:
        yield path
    for key, value in below.items():
        yield from _leaves(value, (*path, key))


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
