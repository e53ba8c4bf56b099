"""The manifest of a folder of pictures: one JSON object a line, what `visualindex ingest` reads."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visualindex.errors import ProblemError, ProblemType

MANIFEST = "manifest.jsonl"
_OWN_KEYS = ("path", "key", "category")


@dataclass(frozen=True)
class Item:
    """One picture of a collection."""

    path: Path
    """Relative to the collection's root."""
    key: str
    """The caller's own name of the picture, unique in its collection."""
    category: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """A folder of pictures and what is known of them."""

    root: Path
    items: tuple[Item, ...]

    @property
    def manifest(self) -> Path:
        """The manifest file of the folder."""
        return self.root / MANIFEST


def write_manifest(root: Path, items: Iterable[Item]) -> None:
    """Write `manifest.jsonl` into `root`, whole or not at all; metadata keys stand beside path, key, category."""
    lines = (
        {**item.metadata, "path": item.path.as_posix(), "key": item.key, "category": item.category}
        for item in items
    )
    partial = root / f"{MANIFEST}.partial"
    partial.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )
    os.replace(partial, root / MANIFEST)


def read_manifest(root: Path) -> Collection:
    """The collection that `write_manifest` described; ProblemError when the folder holds no manifest."""
    try:
        text = (root / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        detail = f"{root} holds no {MANIFEST}: fetch the collection first"
        raise ProblemError(ProblemType.NOT_FOUND, detail) from None
    return Collection(root, tuple(_item(json.loads(line)) for line in text.splitlines()))


def _item(line: dict[str, Any]) -> Item:
    metadata = {key: value for key, value in line.items() if key not in _OWN_KEYS}
    return Item(Path(line["path"]), line["key"], line["category"], metadata)
