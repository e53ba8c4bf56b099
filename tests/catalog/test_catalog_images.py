"""Putting, reading, patching, listing and deleting images."""

import asyncio
import uuid

import numpy as np
import pytest

from visualindex.catalog import Catalog, merge_patch
from visualindex.colours import Colour
from visualindex.errors import ProblemError, ProblemType

from .scene import FINGERPRINT, INDEX, image, number_id, vector


async def test_an_image_is_read_back_as_it_was_put(catalog: Catalog) -> None:
    put = image(1, key="SKU-1", url="https://shop.example/1.jpg", metadata={"color": "grün", "sizes": [1, 2]})
    (written,) = await catalog.put_images(INDEX, [put])
    record = await catalog.get_image(INDEX, put.image_id)
    assert (record.key, record.url, record.category) == ("SKU-1", "https://shop.example/1.jpg", "boots")
    assert record.metadata == put.metadata
    assert record.content_digest == put.content_digest
    assert (record.width, record.height, record.size_bytes, record.media_type) == (640, 480, 9, "image/jpeg")
    assert written.created
    assert written.replaced_digest is None


async def test_colours_are_read_back_and_go_with_the_picture(catalog: Catalog) -> None:
    colours = (Colour(170, 51, 34, 200), Colour(255, 255, 255, 25))
    await catalog.put_images(INDEX, [image(1, colours=colours), image(2)])
    found = await catalog.get_images(INDEX, [number_id(1), number_id(2)])
    assert (found[number_id(1)].colours, found[number_id(2)].colours) == (colours, ())
    await catalog.patch_image(INDEX, number_id(1), metadata={"n": 2})
    assert (await catalog.get_image(INDEX, number_id(1))).colours == colours
    await catalog.put_images(INDEX, [image(1, content=b"another picture", colours=colours[1:])])
    assert (await catalog.get_image(INDEX, number_id(1))).colours == colours[1:]


async def test_vectors_come_back_in_half_precision(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(1)])
    stored = await catalog.get_vectors(INDEX, [number_id(1), number_id(2)], FINGERPRINT)
    assert list(stored) == [number_id(1)]
    np.testing.assert_array_equal(stored[number_id(1)], vector(1).astype(np.float16).astype(np.float32))


async def test_other_content_replaces_all_vectors_of_an_image(catalog: Catalog) -> None:
    both = {(0, FINGERPRINT): vector(1), (0, "encoder-b"): vector(2, 4)}
    await catalog.put_images(INDEX, [image(1, content=b"old", embeddings=both)])
    (written,) = await catalog.put_images(INDEX, [image(1, content=b"new")])
    assert not written.created
    assert written.replaced_digest == image(1, content=b"old").content_digest
    assert await catalog.get_vectors(INDEX, [number_id(1)], "encoder-b") == {}


async def test_the_same_content_keeps_vectors_of_other_encoders(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(1, embeddings={(0, "encoder-b"): vector(2, 4)})])
    (written,) = await catalog.put_images(INDEX, [image(1)])
    assert written.replaced_digest is None
    assert list(await catalog.get_vectors(INDEX, [number_id(1)], "encoder-b")) == [number_id(1)]


async def test_results_of_a_bulk_write_are_in_its_order(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(3)])
    written = await catalog.put_images(INDEX, [image(number) for number in (5, 3, 4)])
    assert [result.image_id for result in written] == [number_id(5), number_id(3), number_id(4)]
    assert [result.created for result in written] == [True, False, True]
    assert len({result.token for result in written}) == 1


async def test_an_image_twice_in_one_write_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ProblemError, match="twice") as refusal:
        await catalog.put_images(INDEX, [image(1), image(1)])
    assert refusal.value.type is ProblemType.INVALID_REQUEST


async def test_a_vector_of_another_dimension_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ProblemError, match=r"has shape \[4\].*takes \[8\]") as refusal:
        await catalog.put_images(INDEX, [image(1, embeddings={(0, FINGERPRINT): vector(1, 4)})])
    assert refusal.value.type is ProblemType.FINGERPRINT_MISMATCH
    assert await catalog.get_images(INDEX, [number_id(1)]) == {}


async def test_text_that_postgres_cannot_hold_is_the_callers_problem(catalog: Catalog) -> None:
    for put in (image(1, metadata={"color": "red\u0000"}), image(1, key="SKU\u0000")):
        with pytest.raises(ProblemError, match="NUL") as refusal:
            await catalog.put_images(INDEX, [put])
        assert refusal.value.type is ProblemType.INVALID_REQUEST


async def test_an_unknown_index_is_named(catalog: Catalog) -> None:
    with pytest.raises(ProblemError, match="no index hats") as refusal:
        await catalog.put_images("hats", [image(1)])
    assert refusal.value.type is ProblemType.INDEX_NOT_FOUND


async def test_a_patch_merges_metadata_and_clears_what_is_none(catalog: Catalog) -> None:
    await catalog.put_images(
        INDEX, [image(1, url="https://shop.example/1", metadata={"a": 1, "b": {"c": 2, "d": 3}})]
    )
    before = await catalog.get_image(INDEX, number_id(1))
    await catalog.patch_image(INDEX, number_id(1), metadata={"a": None, "b": {"c": 5}}, url=None)
    record = await catalog.get_image(INDEX, number_id(1))
    assert record.metadata == {"b": {"c": 5, "d": 3}}
    assert record.url is None
    assert record.category == "boots"
    assert record.version > before.version


@pytest.mark.parametrize(
    ("document", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc_examples(document: object, patch: object, merged: object) -> None:
    assert merge_patch(document, patch) == merged


async def test_patching_or_reading_what_is_not_there_names_the_image(catalog: Catalog) -> None:
    missing = uuid.uuid4()
    with pytest.raises(ProblemError, match=str(missing)) as patched:
        await catalog.patch_image(INDEX, missing, metadata={"a": 1})
    with pytest.raises(ProblemError, match=str(missing)):
        await catalog.get_image(INDEX, missing)
    assert patched.value.type is ProblemType.IMAGE_NOT_FOUND
    assert await catalog.delete_image(INDEX, missing) is None


async def test_a_list_pages_through_every_image_once_newest_first(catalog: Catalog) -> None:
    for number in range(7):
        await catalog.put_images(INDEX, [image(number, category="boots" if number % 2 else "hats")])
    seen, cursor = [], None
    while True:
        page = await catalog.list_images(INDEX, cursor, limit=3)
        seen += [record.image_id for record in page.images]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [number_id(number) for number in reversed(range(7))]
    boots = await catalog.list_images(INDEX, category="boots")
    assert [record.image_id for record in boots.images] == [number_id(number) for number in (5, 3, 1)]


async def test_a_made_up_cursor_is_refused(catalog: Catalog) -> None:
    for cursor in ("nonsense", "\u00e9", "bm90aGluZ3xhdCBhbGw"):
        with pytest.raises(ProblemError, match="cursor") as refusal:
            await catalog.list_images(INDEX, cursor)
        assert refusal.value.type is ProblemType.INVALID_REQUEST


async def test_an_index_with_vectors_keeps_its_encoder(catalog: Catalog) -> None:
    await catalog.ensure_index(INDEX, "encoder-b", 4)
    await catalog.ensure_index(INDEX, FINGERPRINT, 8)
    await catalog.put_images(INDEX, [image(1)])
    with pytest.raises(ProblemError, match=r"encoder-a \(8-d\).*encoder-b \(4-d\)"):
        await catalog.ensure_index(INDEX, "encoder-b", 4)


async def test_versions_of_one_image_follow_its_commits(catalog: Catalog) -> None:
    """Writers, patchers and deleters of the same few ids; whoever commits later must carry the higher version."""

    async def churn(worker: int) -> None:
        for turn in range(12):
            number = (worker + turn) % 2
            if (worker + turn) % 3 == 0:
                await catalog.delete_image(INDEX, number_id(number))
            else:
                await catalog.put_images(INDEX, [image(number, metadata={"by": worker}), image(number + 2)])

    await asyncio.gather(*(churn(worker) for worker in range(4)))
    await catalog.put_images(INDEX, [image(0)])

    async def orders(connection: object) -> list[tuple[int, int, int]]:
        cursor = await connection.execute(  # type: ignore[attr-defined]
            """SELECT c.seq, i.version, (SELECT max(seq) FROM changes m WHERE m.image_id = i.image_id)
               FROM changes c JOIN images i USING (index_name, image_id)"""
        )
        return list(await cursor.fetchall())

    found = await catalog.connections.read(orders)
    assert found
    assert all(version == newest for _, version, newest in found)


@pytest.mark.parametrize("values", [np.zeros(8), np.full(8, np.nan), np.full(8, 1e6), np.full(8, 1e-9)])
async def test_a_vector_that_points_nowhere_once_it_is_stored_is_refused(
    catalog: Catalog, values: np.ndarray
) -> None:
    nowhere = image(2, embeddings={(0, FINGERPRINT): values.astype(np.float32)})
    named = rf"image {number_id(2)} of index {INDEX}, region 0: .*points nowhere.*send another picture"
    with pytest.raises(ProblemError, match=named) as refusal:
        await catalog.put_images(INDEX, [image(1), nowhere])
    assert refusal.value.type is ProblemType.INVALID_IMAGE
    assert await catalog.get_images(INDEX, [number_id(1), number_id(2)]) == {}
