"""Furniture: rendered products of Sweet Home 3D's catalogues, which are zip files with a properties file."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from visualindex.collections.manifest import Item
from visualindex.collections.properties import parse_properties

PACKAGE = "sweethome3d-furniture"
FOLDER = "usr/share/sweethome3d/furniture"

_CATALOG = "PluginFurnitureCatalog.properties"
_ICON = re.compile(r"icon#(\d+)")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_ICON_BYTES = 16 * 1024**2


def extract_furniture(package: Path, into: Path) -> Iterator[Item]:
    """Write every product's picture below `into/images` and describe it, in the order of the catalogues."""
    for catalog in sorted((package / FOLDER).glob("*.sh3f")):
        with zipfile.ZipFile(catalog) as archive:
            properties = parse_properties(archive.read(_CATALOG))
            for number in _numbers(properties):
                item = _item(catalog.stem, number, properties)
                _write_icon(archive, properties[f"icon#{number}"], into / item.path)
                yield item


def _numbers(properties: Mapping[str, str]) -> list[int]:
    return sorted(int(match.group(1)) for key in properties if (match := _ICON.fullmatch(key)))


def _item(catalog: str, number: int, properties: Mapping[str, str]) -> Item:
    key = properties.get(f"id#{number}") or f"{catalog}#{number}"
    suffix = PurePosixPath(properties[f"icon#{number}"]).suffix.lower()
    tags = [tag.strip() for tag in properties.get(f"tags#{number}", "").split(",") if tag.strip()]
    metadata = {
        "name": properties.get(f"name#{number}", ""),
        "tags": tags,
        "creator": properties.get(f"creator#{number}", ""),
        "license": properties.get("license", ""),
    }
    path = Path("images", _UNSAFE.sub("-", catalog), f"{number:04d}-{_UNSAFE.sub('-', key)[-80:]}{suffix}")
    return Item(path, key, properties.get(f"category#{number}", "Miscellaneous"), metadata)


def _write_icon(archive: zipfile.ZipFile, icon: str, target: Path) -> None:
    info = archive.getinfo(icon.lstrip("/"))
    if info.file_size > _MAX_ICON_BYTES:
        raise ValueError(
            f"{archive.filename}: {icon} is larger than {_MAX_ICON_BYTES} bytes: not a catalogue icon"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(archive.read(info))
