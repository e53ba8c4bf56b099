"""Collections by name: which package holds one and how its pictures are taken out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from visualindex.collections import furniture, stamps
from visualindex.collections.debian import cache_folder, unpacked_package
from visualindex.collections.manifest import MANIFEST, Collection, Item, read_manifest, write_manifest
from visualindex.errors import ProblemError, ProblemType


@dataclass(frozen=True)
class Source:
    """Where a collection comes from."""

    package: str
    """Debian package."""
    extract: Callable[[Path, Path], Iterator[Item]]
    """Takes the unpacked package and the target folder, writes pictures, describes them."""
    summary: str


COLLECTIONS: Mapping[str, Source] = {
    "furniture": Source(
        furniture.PACKAGE,
        furniture.extract_furniture,
        "820 rendered products in 12 categories, with names and tags",
    ),
    "stamps": Source(
        stamps.PACKAGE, stamps.extract_stamps, "785 captioned photos and drawings in 16 categories"
    ),
}


def fetch_collection(name: str, into: Path, *, cache: Path | None = None) -> Collection:
    """The pictures of collection `name` below `into`, with their manifest; a second call only reads it.

    Raises ProblemError when the name is unknown or its package cannot be had. The manifest is written last, so a
    folder with a manifest is complete.
    """
    if name not in COLLECTIONS:
        known = ", ".join(COLLECTIONS)
        raise ProblemError(ProblemType.NOT_FOUND, f"no collection is named '{name}': choose one of {known}")
    if not (into / MANIFEST).is_file():
        source = COLLECTIONS[name]
        package = unpacked_package(source.package, cache or cache_folder())
        into.mkdir(parents=True, exist_ok=True)
        write_manifest(into, _extract(source, package, into))
    return read_manifest(into)


def _extract(source: Source, package: Path, into: Path) -> list[Item]:
    try:
        items = list(source.extract(package, into))
    except (BadZipFile, KeyError, ValueError) as error:
        detail = (
            f"the package {source.package} is not as expected ({error}): delete {package} and fetch it again"
        )
        raise ProblemError(ProblemType.UNAVAILABLE, detail) from error
    if not items:
        detail = f"the package {source.package} holds no pictures: delete {package} and fetch it again"
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    return items
