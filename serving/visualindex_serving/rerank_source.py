"""Where a reranker finds the patches of candidates: in memory, else in the catalog's side table."""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from visualindex.rerank.segment_patches import Found, SegmentPatches

Read = Callable[[Sequence[uuid.UUID], str], Awaitable[Mapping[uuid.UUID, bytes]]]
"""Reads the packed patches of images that have some of that fingerprint."""

Segments = Callable[[str], Sequence[SegmentPatches]]
"""The segments that are searched now, of those whose patches have that fingerprint."""

_ENTRY_BYTES = 300
"""What an entry takes of memory beside its patches."""


class PatchSource(Protocol):
    """Gives the packed patches (`Packed.row_bytes`) of images of one index."""

    async def of(self, wanted: Mapping[uuid.UUID, int], features: str) -> Mapping[uuid.UUID, bytes]:
        """The patches, of that fingerprint, of those images that have some.

        `wanted` maps an image to the version that a shard has of it: patches of an older one are not given. 0 stands for
        the version that the catalog has now.
        """


@dataclass(slots=True)
class _Held:
    """Patches, or that there are none, as the catalog had them when a shard knew of `version`."""

    version: int
    patches: bytes | None


class SideTable:
    """The catalog's side table behind the patches that were used last, at most `limit_bytes` of them.

    An image whose version grew is read again: its content may have changed. That an image has no patches is remembered
    as well.
    """

    def __init__(self, read: Read, limit_bytes: int) -> None:
        self._read = read
        self._limit = limit_bytes
        self._held: OrderedDict[tuple[uuid.UUID, str], _Held] = OrderedDict()
        self._bytes = 0

    async def of(self, wanted: Mapping[uuid.UUID, int], features: str) -> Mapping[uuid.UUID, bytes]:
        """See `PatchSource.of`."""
        found = {i: held for i, version in wanted.items() if (held := self._known(i, version, features))}
        missing = [image_id for image_id in wanted if image_id not in found]
        if missing:
            read = await self._read(missing, features)
            for image_id in missing:
                found[image_id] = _Held(wanted[image_id], read.get(image_id))
                if wanted[image_id]:
                    self._hold((image_id, features), found[image_id])
        return {image_id: held.patches for image_id, held in found.items() if held.patches is not None}

    def _known(self, image_id: uuid.UUID, version: int, features: str) -> _Held | None:
        held = self._held.get((image_id, features))
        if held is None or not version or held.version < version:
            return None
        self._held.move_to_end((image_id, features))
        return held

    def _hold(self, key: tuple[uuid.UUID, str], held: _Held) -> None:
        self._bytes += _size(held) - (_size(self._held[key]) if key in self._held else 0)
        self._held[key] = held
        self._held.move_to_end(key)
        while self._bytes > self._limit and self._held:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= _size(oldest)


class Folded:
    """Generations with the side table beside them: what is written since a generation was built is newer there.

    An image that only got other metadata since has nothing newer in the side table, and its patches in the segment still
    hold.
    """

    def __init__(self, segments: Segments, fresh: PatchSource) -> None:
        self._segments = segments
        self._fresh = fresh

    async def of(self, wanted: Mapping[uuid.UUID, int], features: str) -> Mapping[uuid.UUID, bytes]:
        """See `PatchSource.of`."""
        segments = self._segments(features)
        held: dict[uuid.UUID, Found] = {}
        if segments:  # their pages may be on disk
            held = await asyncio.to_thread(_held, segments, list(wanted))
        newer = {i: v for i, v in wanted.items() if i not in held or not v or held[i].version < v}
        fresh = await self._fresh.of(newer, features) if newer else {}
        return {**{image_id: found.patches for image_id, found in held.items()}, **fresh}


def _held(segments: Sequence[SegmentPatches], images: Sequence[uuid.UUID]) -> dict[uuid.UUID, Found]:
    held: dict[uuid.UUID, Found] = {}
    for segment in segments:
        for image_id in images:
            found = segment.find(image_id)
            if found is not None and (image_id not in held or held[image_id].version < found.version):
                held[image_id] = found
    return held


def _size(held: _Held) -> int:
    return _ENTRY_BYTES + len(held.patches or b"")
