"""What hits say of their images, remembered by version: a search that finds what others found asks no database.

A shard tells which version of an image it found, so a record that is as new as that shows what the shard has seen.
"""

import math
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from cachetools import LRUCache

from visualindex.catalog import ImageRecord

Read = Callable[[Sequence[uuid.UUID]], Awaitable[Mapping[uuid.UUID, ImageRecord]]]
"""Reads the records of images from the catalog; images that are not there are left out."""

_BYTES = 32 * 1024 * 1024
_KEPT_S = 600.0
"""A database that was restored from a backup counts versions again: what was read before it is forgotten by then."""

_FRESH_S = 30.0
"""A shard that cannot follow the log must not keep deleted images and old metadata on show for longer."""

_RECORD_BYTES = 1024
_OBJECTS_PER_JSON = 8
"""Python objects take about that many times the bytes of the JSON they came from."""


class Records:
    """The records of one index that were last needed, at most 32 MiB of them, each good for ten minutes."""

    def __init__(self, read: Read, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._held: LRUCache[uuid.UUID, _Held] = LRUCache(_BYTES, getsizeof=lambda held: held.bytes)

    def known(
        self, ids: Sequence[uuid.UUID], versions: Sequence[int], age_s: float = 0.0
    ) -> dict[uuid.UUID, ImageRecord]:
        """The records that are remembered, at least as new as the versions.

        `age_s` is how long ago the shards looked into the change log. While they follow it, their versions tell what is
        out of date and their hits what was deleted; else a record is good for 30 seconds.
        """
        read_since = self._clock() - (_KEPT_S if age_s <= _FRESH_S else _FRESH_S)
        records = {}
        for image_id, version in zip(ids, versions, strict=True):
            held = self._held.get(image_id)
            if held is not None and held.record.version >= version and held.read_at >= read_since:
                records[image_id] = held.record
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
            self._hold(read)
        return records

    def _hold(self, read: Mapping[uuid.UUID, ImageRecord]) -> None:
        for image_id, record in read.items():
            held = _Held(record, _size(record), self._clock())
            if held.bytes <= _BYTES // 100:
                self._held[image_id] = held


@dataclass(frozen=True, slots=True)
class _Held:
    record: ImageRecord
    bytes: int
    read_at: float


def _size(record: ImageRecord) -> int:
    """About how many bytes of memory it takes."""
    return _RECORD_BYTES + len(record.url or "") + len(orjson.dumps(record.metadata)) * _OBJECTS_PER_JSON
