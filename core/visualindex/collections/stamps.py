"""Stamps: the photos and drawings of Tux Paint, each with a caption in a `.txt` file beside it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from visualindex.collections.manifest import Item

PACKAGE = "tuxpaint-stamps-default"
FOLDER = "usr/share/tuxpaint/stamps"


def extract_stamps(package: Path, into: Path) -> Iterator[Item]:
    """Copy every captioned picture below `into/images` and describe it, sorted by path.

    The mirrored twins that the package carries have no caption and are left out.
    """
    stamps = package / FOLDER
    for picture in sorted(stamps.rglob("*.png")):
        caption = picture.with_suffix(".txt")
        if caption.is_file():
            item = _item(picture.relative_to(stamps), _first_line(caption))
            target = into / item.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, target)
            yield item


def _item(path: Path, caption: str) -> Item:
    metadata = {"name": caption, "tags": list(path.parts[1:-1])}
    return Item(Path("images") / path, path.with_suffix("").as_posix(), path.parts[0], metadata)


def _first_line(caption: Path) -> str:
    """The English caption stands in the first line, translations as `de.utf8=…` below."""
    lines = caption.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[0].strip() if lines else ""
