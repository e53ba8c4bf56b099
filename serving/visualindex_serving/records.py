"""What hits say of their images, remembered by version: a search that finds what others found asks no database.

A shard tells which version of an image it found, so a record that is as new as that shows what the shard has seen.
"""

import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from visualindex.catalog import ImageRecord
from visualindex_serving.packed_records import pack_record, unpack_record

Read = Callable[[Sequence[uuid.UUID]], Awaitable[Mapping[uuid.UUID, ImageRecord]]]
"""Reads the records of images from the catalog; images that are not there are left out."""

KEPT_S = 600.0
"""A database that was restored from a backup counts versions again: what was read before it is forgotten by then."""

_FRESH_S = 30.0
"""A shard that cannot follow the log must not keep deleted images and old metadata on show for longer."""

_ENTRY_BYTES = 400
"""What the cache takes for an entry beside its bytes: identifier, times and its place in the order (measured)."""


class Records:
    """The records of one index that were last needed, at most `room` bytes of them, each good for ten minutes."""

    def __init__(self, read: Read, room: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._held: LRUCache[uuid.UUID, _Held] = LRUCache(room, getsizeof=lambda held: held.bytes)

    def known(
        self, ids: Sequence[uuid.UUID], versions: Sequence[int], age_s: float = 0.0
    ) -> dict[uuid.UUID, ImageRecord]:
        """The records that are remembered, at least as new as the versions.

        `age_s` is how long ago the shards looked into the change log. While they follow it, their versions tell what is
        out of date and their hits what was deleted; else a record is good for 30 seconds.
        """
        read_since = self._clock() - (KEPT_S if age_s <= _FRESH_S else _FRESH_S)
        records = {}
        for image_id, version in zip(ids, versions, strict=True):
            held = self._held.get(image_id)
            if held is not None and held.version >= version and held.read_at >= read_since:
                records[image_id] = unpack_record(image_id, held.version, held.packed)
        return records

    async def of(
        self, ids: Sequence[uuid.UUID], versions: Sequence[int], age_s: float = math.inf
    ) -> dict[uuid.UUID, ImageRecord]:
        """The records, as `known` has them or read; an image that was deleted meanwhile may be missing."""
        records = self.known(ids, versions, age_s)
        missing = [image_id for image_id in ids if image_id not in records]
        if missing:
            read = await self._read(missing)
            records.update(read)
            self.hold(read.values())
        return records

    def hold(self, records: Iterable[ImageRecord]) -> bool:
        """Remember what was just read; False when others had to be forgotten for it."""
        before = len(self._held)
        added = 0
        for record in records:
            held = _Held(record.version, pack_record(record), self._clock())
            if held.bytes <= self._held.maxsize // 100:
                added += record.image_id not in self._held
                self._held[record.image_id] = held
        return len(self._held) == before + added

    def holds(self, records: Iterable[ImageRecord]) -> bool:
        """Whether all of them are remembered as they are."""
        held = ((self._held.get(record.image_id), record.version) for record in records)
        return all(one is not None and one.version == version for one, version in held)


@dataclass(frozen=True, slots=True)
class _Held:
    version: int
    packed: bytes
    read_at: float

    @property
    def bytes(self) -> int:
        return _ENTRY_BYTES + len(self.packed)
