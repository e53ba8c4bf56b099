"""Hits' records are remembered by version: never older than what the shard found, and not for ever."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from visualindex.catalog import ImageRecord
from visualindex_serving.records import Records

A, B = uuid.UUID(int=1), uuid.UUID(int=2)


def record(image_id: uuid.UUID, version: int, **metadata: Any) -> ImageRecord:
    now = dt.datetime.now(dt.UTC)
    return ImageRecord(
        image_id, None, None, "c", now, metadata, bytes(32), "image/png", 1, 1, 1, version=version
    )


class Catalog:
    def __init__(self, *records: ImageRecord) -> None:
        self.rows = {record.image_id: record for record in records}
        self.asked: list[list[uuid.UUID]] = []

    async def read(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, ImageRecord]:
        self.asked.append(list(ids))
        return {image_id: self.rows[image_id] for image_id in ids if image_id in self.rows}


async def test_what_is_known_as_new_as_the_shard_found_it_is_not_read_again() -> None:
    catalog = Catalog(record(A, 5), record(B, 6))
    records = Records(catalog.read, 1 << 20)
    first = await records.of([A], [5])
    second = await records.of([A, B], [4, 6])
    assert first == {A: catalog.rows[A]}
    assert second == {A: catalog.rows[A], B: catalog.rows[B]}
    assert catalog.asked == [[A], [B]]


async def test_a_newer_version_in_the_shard_is_read() -> None:
    catalog = Catalog(record(A, 5, price=1))
    records = Records(catalog.read, 1 << 20)
    await records.of([A], [5])
    catalog.rows[A] = record(A, 9, price=2)
    assert (await records.of([A], [9]))[A].metadata == {"price": 2}
    assert len(catalog.asked) == 2


async def test_a_deleted_image_is_missing_and_asked_for_again() -> None:
    catalog = Catalog()
    records = Records(catalog.read, 1 << 20)
    assert await records.of([A], [5]) == {}
    catalog.rows[A] = record(A, 7)
    assert A in await records.of([A], [5])


async def test_while_the_shards_follow_the_log_versions_alone_tell_what_is_old() -> None:
    now = 0.0
    catalog = Catalog(record(A, 5))
    records = Records(catalog.read, 1 << 20, clock=lambda: now)
    await records.of([A], [5], age_s=0.2)
    now = 300.0
    assert A in await records.of([A], [5], age_s=0.2)
    assert len(catalog.asked) == 1


async def test_of_shards_that_cannot_follow_the_log_nothing_is_known_for_longer_than_half_a_minute() -> None:
    now = 0.0
    catalog = Catalog(record(A, 5))
    records = Records(catalog.read, 1 << 20, clock=lambda: now)
    await records.of([A], [5])
    now = 29.0
    await records.of([A], [5], age_s=60.0)
    now = 31.0
    del catalog.rows[A]
    assert await records.of([A], [5], age_s=60.0) == {}
    assert len(catalog.asked) == 2


async def test_nothing_is_known_for_longer_than_ten_minutes() -> None:
    now = 0.0
    catalog = Catalog(record(A, 5))
    records = Records(catalog.read, 1 << 20, clock=lambda: now)
    await records.of([A], [5], age_s=0.2)
    now = 601.0
    assert records.known([A], [5]) == {}


async def test_large_metadata_crowds_nothing_out() -> None:
    catalog = Catalog(record(A, 5, text="x" * 60_000), record(B, 6))
    records = Records(catalog.read, 1 << 20)
    for _ in range(2):
        assert len(await records.of([A, B], [5, 6])) == 2
    assert catalog.asked == [[A, B], [A]]


async def test_what_is_known_can_be_had_without_asking() -> None:
    catalog = Catalog(record(A, 5))
    records = Records(catalog.read, 1 << 20)
    await records.of([A], [5])
    assert records.known([A, B], [5, 6]) == {A: catalog.rows[A]}
    assert records.known([A], [6]) == {}
    assert len(catalog.asked) == 1
