"""Objects as a real cluster held them while an index started, and ways to change them for a test."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from visualindex_operator.kubectl.surroundings import Surroundings

_RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
NOW = datetime(2026, 11, 24, 11, 5, tzinfo=UTC)


def recorded(**changes: Any) -> Surroundings:
    """What was recorded, with parts replaced."""
    return Surroundings(**{**deepcopy(_RECORDED), **changes})


def with_conditions(*conditions: tuple[str, str, str, str], generation: int = 1) -> dict[str, Any]:
    """The index with these conditions (type, status, reason, message) and no plan."""
    index: dict[str, Any] = deepcopy(_RECORDED["index"])
    keys = ("type", "status", "reason", "message")
    index["metadata"]["generation"] = generation
    index["status"]["conditions"] = [dict(zip(keys, values, strict=True)) for values in conditions]
    index["status"].pop("plan")
    return index


def text(*parts: RenderableType, width: int = 120) -> str:
    """What a person reads, without colours and trailing spaces."""
    console = Console(width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
