"""VisualIndex documents of the tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


def documents(path: Path) -> list[dict[str, Any]]:
    """Every YAML document of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def expectation(path: Path) -> str:
    """The message fragment that a file's first line promises."""
    first = path.read_text().splitlines()[0]
    assert first.startswith("# expect: "), f"{path} starts with no expectation"
    return first.removeprefix("# expect: ")


def resource(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """A resource with the given sections."""
    return {
        "apiVersion": "visualindex.dev/v1alpha1",
        "kind": "VisualIndex",
        "metadata": {"name": name},
        "spec": spec,
    }


def field_values(section: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Every value below a section with its dotted path; what a list or a free mapping holds is one value.

    The elements of `attributes`, `domains`, `buckets` and `schedules` are sections.
    """
    for key, value in section.items():
        place = f"{path}.{key}"
        yield place, value
        if isinstance(value, dict) and key not in ("nodeSelector", "template"):
            yield from field_values(value, place)
        if (
            key in ("attributes", "domains", "buckets", "schedules")
            and isinstance(value, list)
            and isinstance(value[0], dict)
        ):
            for declared in value:
                yield from field_values(declared, place)
