"""What hits say of their images, remembered by version: a search that finds what others found asks no database.

A shard tells which version of an image it found, so a record that is as new as that shows what the shard has seen.
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from cachetools import TTLCache

from visualindex.catalog import ImageRecord

Read = Callable[[Sequence[uuid.UUID]], Awaitable[Mapping[uuid.UUID, ImageRecord]]]
"""Reads the records of images from the catalog; images that are not there are left out."""

_BYTES = 32 * 1024 * 1024
_FRESH_S = 30.0
"""A shard that cannot follow the log must not keep deleted images and old metadata on show for longer."""

_RECORD_BYTES = 1024
_OBJECTS_PER_JSON = 8
"""Python objects take about that many times the bytes of the JSON they came from."""


class Records:
    """The records of one index that were last needed, at most 32 MiB of them and none for longer than 30 seconds."""

    def __init__(self, read: Read, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._known: TTLCache[uuid.UUID, ImageRecord] = TTLCache(
            _BYTES, _FRESH_S, timer=clock, getsizeof=_size
        )

    async def of(self, ids: Sequence[uuid.UUID], versions: Sequence[int]) -> dict[uuid.UUID, ImageRecord]:
        """The records, at least as new as the versions; an image that was deleted meanwhile may be missing."""
        records = {}
        for image_id, version in zip(ids, versions, strict=True):
            record = self._known.get(image_id)
            if record is not None and record.version >= version:
                records[image_id] = record
        missing = [image_id for image_id in ids if image_id not in records]
        if missing:
            records.update(self._remembered(await self._read(missing)))
        return records

    def _remembered(self, read: Mapping[uuid.UUID, ImageRecord]) -> Mapping[uuid.UUID, ImageRecord]:
        for image_id, record in read.items():
            if _size(record) <= _BYTES // 100:
                self._known[image_id] = record
        return read


def _size(record: ImageRecord) -> int:
    return _RECORD_BYTES + len(orjson.dumps(record.metadata)) * _OBJECTS_PER_JSON
