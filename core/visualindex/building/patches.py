"""The patches of the images of an index, wherever they are: in the side table, or in generations that are loaded.

An image that changed since a generation was built may look the same: its row there is believed when it has the same
vector, for one encoder gives one picture one vector.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Codes
from visualindex.ann.graph import Abandoned
from visualindex.ann.segment import IDS, VECTORS
from visualindex.catalog import Catalog, GenerationRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import Lease, Manifest, NodeCache, read_manifest
from visualindex.mapped_files import mapped
from visualindex.objectstore import ObjectStore
from visualindex.rerank.packed import FILES as PATCH_FILES
from visualindex.rerank.packed import PackedWriter
from visualindex.rerank.segment_patches import FILES, SegmentPatches

logger = logging.getLogger(__name__)

PARAMETER = "rerank"
"""Where a manifest's parameters say of what features the patches are, and how many images have some."""
_BATCH = 500  # 6 MiB
_LOST = (ProblemType.NOT_FOUND, ProblemType.INTERNAL)


@dataclass(frozen=True)
class Kept:
    """What patches an index keeps: the fingerprint of their `features`, and where files of generations are fetched to."""

    features: str
    cache: NodeCache


def features_of(parameters: Mapping[str, Any]) -> str | None:
    """The fingerprint of the patches in a generation, by its manifest's parameters; None where it has none."""
    said = parameters.get(PARAMETER)
    return str(said["features"]) if isinstance(said, dict) and "features" in said else None


@dataclass(frozen=True)
class _Earlier:
    """A segment of a generation: its patches, and its vectors uint8[n, 2 * dimension]."""

    patches: SegmentPatches
    codes: Codes

    def has(self, image_id: uuid.UUID, code: bytes) -> bool:
        row = self.patches.row(image_id)
        return row is not None and self.codes[row].tobytes() == code and self.patches.known(row)

    def find(self, image_id: uuid.UUID, code: bytes) -> bytes | None:
        row = self.patches.row(image_id)
        if row is None or self.codes[row].tobytes() != code:
            return None
        found = self.patches.find(image_id)
        return None if found is None else found.patches


class StoredPatches:
    """Reads the patches of an index. Files of generations are fetched when they are first needed, and held until the end."""

    def __init__(
        self, catalog: Catalog, store: ObjectStore, index: str, fingerprint: str, dimension: int, kept: Kept
    ) -> None:
        """`fingerprint` and `dimension` are of the vectors."""
        self._catalog = catalog
        self._store = store
        self._index = index
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._kept = kept
        self._generations: list[GenerationRecord] | None = None
        self._opened: dict[tuple[str, range], list[_Earlier]] = {}
        self._leases: list[Lease] = []

    async def __aenter__(self) -> "StoredPatches":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lease in self._leases:
            await asyncio.to_thread(lease.release)
        self._opened.clear()

    async def of(
        self, images: Sequence[uuid.UUID], codes: Sequence[bytes], buckets: range
    ) -> dict[uuid.UUID, bytes]:
        """`Packed.row_bytes` of those images that have some; `codes` are their vectors, `buckets` hold them all.

        Raises ProblemError when the catalog or the object store cannot be read now.
        """
        found = await self._catalog.get_patches(self._index, images, self._kept.features)
        code_of = dict(zip(images, codes, strict=True))
        for record in await self._candidates():
            missing = {image_id: code_of[image_id] for image_id in images if image_id not in found}
            if not missing:
                break
            segments = await self._segments(record, buckets)
            found |= await asyncio.to_thread(_found, segments, missing)
        return found

    async def known(
        self, images: Sequence[uuid.UUID], codes: Sequence[bytes], buckets: range
    ) -> set[uuid.UUID]:
        """The images that `of` would give some of, without reading them. Raises as `of`."""
        found = await self._catalog.images_with_patches(self._index, images, self._kept.features)
        code_of = dict(zip(images, codes, strict=True))
        for record in await self._candidates():
            missing = {image_id: code for image_id, code in code_of.items() if image_id not in found}
            if not missing:
                break
            segments = await self._segments(record, buckets)
            found |= await asyncio.to_thread(_having, segments, missing)
        return found

    async def _candidates(self) -> list[GenerationRecord]:
        """The active generation first."""
        if self._generations is None:
            self._generations = [
                record
                for record in await self._catalog.loaded_generations(self._index)
                if record.fingerprint == self._fingerprint
                and features_of(record.manifest.get("parameters", {})) == self._kept.features
            ]
        return self._generations

    async def _segments(self, record: GenerationRecord, buckets: range) -> list[_Earlier]:
        key = record.generation, buckets
        if key not in self._opened:
            try:
                self._opened[key] = await self._open(record, buckets)
            except ProblemError as problem:
                if problem.type not in _LOST:
                    raise
                logger.warning("patches of generation %s are lost: %s", record.generation, problem.detail)
                self._opened[key] = []
        return self._opened[key]

    async def _open(self, record: GenerationRecord, buckets: range) -> list[_Earlier]:
        manifest = await read_manifest(self._store, self._index, record.generation)
        segments = []
        for shard, files in enumerate(manifest.shards):
            if files.buckets.stop <= buckets.start or buckets.stop <= files.buckets.start:
                continue
            if (
                lease := await fetch_patches(self._store, self._kept.cache, manifest, shard, VECTORS)
            ) is None:
                continue
            self._leases.append(lease)
            patches = await asyncio.to_thread(SegmentPatches.open, lease.directory)
            if patches is not None:
                segments.append(_Earlier(patches, vectors_in(lease.directory, self._dimension)))
        return segments


async def fetch_patches(
    store: ObjectStore, cache: NodeCache, manifest: Manifest, shard: int, *more: str
) -> Lease | None:
    """A lease of what `SegmentPatches.open` reads of a shard, and `more`; None where the shard has no patches.

    Raises as `NodeCache.fetch`.
    """
    listed = {entry.name for entry in manifest.shards[shard].files}
    if not listed.issuperset(PATCH_FILES):
        return None
    return await cache.fetch(store, manifest.index, manifest, shard, names={*FILES, *more})


async def write_patches(
    stored: StoredPatches,
    directory: Path,
    dimension: int,
    buckets: range,
    *,
    say: Callable[[int, int], None],
    wanted: Callable[[], bool],
) -> int:
    """Write the patches of the segment in `directory` beside it, in its order; returns how many rows have some.

    `say` is told rows done and rows in all. Raises ProblemError as `StoredPatches.of`, and Abandoned soon after `wanted`
    turns false.
    """
    ids: NDArray[np.uint8] = np.fromfile(directory / IDS, np.uint8).reshape(-1, 16)
    codes = vectors_in(directory, dimension)
    with PackedWriter(directory) as writer:
        for start in range(0, len(ids), _BATCH):
            if not wanted():
                raise Abandoned
            some = slice(start, start + _BATCH)
            images = [uuid.UUID(bytes=one.tobytes()) for one in ids[some]]
            found = await stored.of(images, [code.tobytes() for code in codes[some]], buckets)
            await asyncio.to_thread(_add, writer, [found.get(image_id) for image_id in images])
            say(min(start + _BATCH, len(ids)), len(ids))
    return writer.known


def vectors_in(directory: Path, dimension: int) -> Codes:
    """The vectors of the segment in `directory`, mapped, uint8[n, 2 * dimension]."""
    codes: Codes = mapped(directory / VECTORS, np.dtype(np.uint8), (2 * dimension,))
    return codes


def _add(writer: PackedWriter, rows: Sequence[bytes | None]) -> None:
    for row in rows:
        writer.add(row)


def _having(segments: Sequence[_Earlier], missing: Mapping[uuid.UUID, bytes]) -> set[uuid.UUID]:
    return {image_id for image_id, code in missing.items() if any(s.has(image_id, code) for s in segments)}


def _found(segments: Sequence[_Earlier], missing: Mapping[uuid.UUID, bytes]) -> dict[uuid.UUID, bytes]:
    found = {}
    for image_id, code in missing.items():
        for segment in segments:
            patches = segment.find(image_id, code)
            if patches is not None:
                found[image_id] = patches
                break
    return found
