"""Where the records of all images fit into memory, they are read before a search needs them."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence

from visualindex.catalog import ImageRecord, Page
from visualindex_serving.reading_ahead import ReadAhead
from visualindex_serving.records import Records


class Catalog:
    """Images, oldest first, listed from the newest on as the catalog does."""

    def __init__(self, count: int) -> None:
        self.images = [_record(number) for number in range(count)]
        self.listed: list[str | None] = []

    async def list_images(self, cursor: str | None, limit: int) -> Page:
        self.listed.append(cursor)
        newest_first, start = self.images[::-1], int(cursor or 0)
        more = start + limit < len(newest_first)
        return Page(newest_first[start : start + limit], str(start + limit) if more else None)

    async def get_images(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, ImageRecord]:
        raise AssertionError("nothing is read that is known")


def _record(number: int) -> ImageRecord:
    now = dt.datetime.now(dt.UTC)
    about = {"title": f"Sofa {number}"}
    return ImageRecord(
        uuid.UUID(int=number), None, None, "c", now, about, bytes(32), "image/png", 1, 1, 1, version=number
    )


def _known(records: Records, catalog: Catalog) -> int:
    ids = [image.image_id for image in catalog.images]
    return len(records.known(ids, [image.version for image in catalog.images]))


async def test_all_records_are_known_before_anything_was_searched() -> None:
    catalog = Catalog(350)
    records = Records(catalog.get_images, 1 << 20)
    assert await ReadAhead("shop", catalog.list_images, records).look()
    assert await records.of([catalog.images[7].image_id], [7]) == {uuid.UUID(int=7): catalog.images[7]}
    assert _known(records, catalog) == 350


async def test_afterwards_only_what_is_new_is_read() -> None:
    catalog = Catalog(1000)
    records = Records(catalog.get_images, 1 << 22)
    ahead = ReadAhead("shop", catalog.list_images, records)
    await ahead.look()
    catalog.listed.clear()
    catalog.images += [_record(number) for number in range(1000, 1150)]
    await ahead.look()
    assert _known(records, catalog) == 1150
    assert catalog.listed == [None, "100", "200"]


async def test_it_ends_where_not_all_fit() -> None:
    catalog = Catalog(1000)
    records = Records(catalog.get_images, 100_000)
    assert not await ReadAhead("shop", catalog.list_images, records).look()
    assert len(catalog.listed) <= 3
