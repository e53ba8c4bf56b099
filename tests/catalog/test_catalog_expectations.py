"""What a generation ought to hold: what was there at its moment, was left alone since, and can be had."""

import uuid

import psycopg

from visualindex.catalog import Catalog

from .scene import INDEX, image, number_id


def ids(apart: object) -> set[uuid.UUID]:
    return {uuid.UUID(bytes=one.tobytes()) for one in apart}  # type: ignore[attr-defined]


async def test_images_that_were_left_alone_are_expected_and_others_set_apart(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(number) for number in range(10)])
    watermark = await catalog.begin_build(INDEX, "build")
    await catalog.delete_image(INDEX, number_id(0))
    await catalog.put_images(INDEX, [image(1, content=b"another picture"), image(10)])
    expected = await catalog.expected_images(INDEX, watermark)
    assert expected is not None
    assert expected.images == 8
    assert ids(expected.apart) == {number_id(0), number_id(1), number_id(10)}


async def test_a_transaction_that_was_open_at_that_moment_is_set_apart(catalog: Catalog, dsn: str) -> None:
    await catalog.put_images(INDEX, [image(number) for number in range(3)])
    async with await psycopg.AsyncConnection.connect(dsn) as other:
        await other.execute(
            "INSERT INTO changes (index_name, bucket, image_id, kind) VALUES (%s, 0, %s, 1)",
            (INDEX, number_id(2)),
        )
        watermark = await catalog.begin_build(INDEX, "build")
    expected = await catalog.expected_images(INDEX, watermark)
    assert expected is not None
    assert (expected.images, ids(expected.apart)) == (2, {number_id(2)})


async def test_nothing_is_expected_where_the_log_does_not_reach_back(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(0)])
    watermark = await catalog.begin_build(INDEX, "build")
    await catalog.end_build(INDEX, "build")
    await catalog.put_images(INDEX, [image(1)])
    assert await catalog.trim_log(INDEX, keep_s=0) > 0
    assert await catalog.expected_images(INDEX, watermark) is None
