"""Origins: an image goes with its object only when it came from that one alone; equal content has been encoded before."""

import uuid

import numpy as np
import pytest

from visualindex.catalog import Catalog, Origin

from .scene import INDEX, image

PLACE = "s3://minio/shop"


def origin(key: str, image_id: uuid.UUID, digest: bytes, sequencer: str = "") -> Origin:
    return Origin(PLACE, key, image_id, digest, "etag", sequencer)


async def test_an_image_stays_until_the_last_object_it_came_from_is_gone(catalog: Catalog) -> None:
    one = image(1)
    origins = [origin(key, one.image_id, one.content_digest) for key in ("a.jpg", "b.jpg")]
    await catalog.put_images(INDEX, [one], origins=origins)
    assert await catalog.remove_origin(INDEX, PLACE, "a.jpg") is None
    assert await catalog.count_images(INDEX) == 1
    assert await catalog.remove_origin(INDEX, PLACE, "b.jpg") is not None
    assert await catalog.count_images(INDEX) == 0
    assert await catalog.remove_origin(INDEX, PLACE, "b.jpg") is None


async def test_origins_go_with_their_image_and_none_is_noted_of_an_image_that_is_not_there(
    catalog: Catalog,
) -> None:
    one = image(1)
    noted = origin("a.jpg", one.image_id, one.content_digest)
    await catalog.note_origins(INDEX, [noted])
    assert await catalog.get_origins(INDEX, PLACE, ["a.jpg"]) == {}
    await catalog.put_images(INDEX, [one], origins=[noted])
    assert await catalog.get_origins(INDEX, PLACE, ["a.jpg"]) == {"a.jpg": noted}
    await catalog.delete_image(INDEX, one.image_id)
    assert await catalog.get_origins(INDEX, PLACE, ["a.jpg"]) == {}


async def test_a_look_through_a_bucket_leaves_the_last_events_number(catalog: Catalog) -> None:
    one = image(1)
    await catalog.put_images(INDEX, [one], origins=[origin("a.jpg", one.image_id, one.content_digest, "1F")])
    await catalog.note_origins(INDEX, [origin("a.jpg", one.image_id, one.content_digest)])
    assert (await catalog.get_origins(INDEX, PLACE, ["a.jpg"]))["a.jpg"].sequencer == "1F"


@pytest.mark.parametrize(
    ("prefix", "after", "expected"),
    [("", "", ["Z", "a/1", "a/2", "a0", "é"]), ("a/", "", ["a/1", "a/2"]), ("a", "a/1", ["a/2", "a0"])],
)
async def test_origins_are_listed_in_the_order_of_their_bytes(
    catalog: Catalog, prefix: str, after: str, expected: list[str]
) -> None:
    one = image(1)
    keys = ["é", "a0", "a/2", "a/1", "Z"]
    await catalog.put_images(
        INDEX, [one], origins=[origin(key, one.image_id, one.content_digest) for key in keys]
    )
    listed = await catalog.list_origins(INDEX, PLACE, prefix, after, limit=10)
    assert [found.object_key for found in listed] == expected


async def test_equal_content_is_found_with_its_vector(catalog: Catalog) -> None:
    one = image(1)
    await catalog.put_images(INDEX, [one])
    ((_, fingerprint), vector) = next(iter(one.embeddings.items()))
    found = await catalog.twins(INDEX, [one.content_digest, bytes(32)], fingerprint)
    twin = found.pop(one.content_digest)
    assert found == {}
    assert (twin.image_id, twin.media_type, twin.width) == (one.image_id, one.media_type, one.width)
    np.testing.assert_allclose(twin.vector, vector, atol=1e-3)
    assert await catalog.twins(INDEX, [one.content_digest], "another") == {}
