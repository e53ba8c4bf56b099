"""Packed patches come and go with the images they were made of."""

import uuid

import psycopg

from visualindex.catalog import Catalog
from visualindex.identity import content_digest

from .scene import FINGERPRINT, INDEX, image, number_id

FEATURES = "patches-a"
GENERATION = "0123456789abcdef"


async def test_patches_are_written_with_their_image_and_read_back(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(n, patches={FEATURES: bytes([n] * 70)}) for n in (1, 2)])
    await catalog.put_images(INDEX, [image(3)])
    found = await catalog.get_patches(INDEX, [number_id(n) for n in (1, 2, 3, 4)], FEATURES)
    assert found == {number_id(1): b"\x01" * 70, number_id(2): b"\x02" * 70}
    assert await catalog.get_patches(INDEX, [number_id(1)], "patches-b") == {}


async def test_other_content_takes_its_patches_along(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(1, content=b"old", patches={FEATURES: b"old"})])
    await catalog.put_images(INDEX, [image(1, content=b"new")])
    assert await catalog.get_patches(INDEX, [number_id(1)], FEATURES) == {}
    await catalog.put_images(INDEX, [image(1, content=b"newer", patches={FEATURES: b"newer"})])
    assert await catalog.get_patches(INDEX, [number_id(1)], FEATURES) == {number_id(1): b"newer"}


async def test_patches_outlive_changes_of_metadata_but_not_their_image(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(1, patches={FEATURES: b"p"})])
    await catalog.patch_image(INDEX, number_id(1), metadata={"colour": "red"})
    assert await catalog.get_patches(INDEX, [number_id(1)], FEATURES) == {number_id(1): b"p"}
    await catalog.delete_image(INDEX, number_id(1))
    assert await catalog.get_patches(INDEX, [number_id(1)], FEATURES) == {}


async def test_content_that_the_release_before_replaced_has_no_patches(catalog: Catalog, dsn: str) -> None:
    """That release knows no patches and leaves the old ones."""
    await catalog.put_images(INDEX, [image(1, patches={FEATURES: b"old"})])
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as old:
        await old.execute("UPDATE images SET content_digest = %s", (content_digest(b"other"),))
    assert await catalog.get_patches(INDEX, [number_id(1)], FEATURES) == {}


async def test_folded_patches_go_unless_they_were_written_since(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(n, patches={FEATURES: b"p"}) for n in (1, 2)])
    follower = catalog.follow(INDEX, FINGERPRINT, range(1024))
    async for _ in follower.load():
        pass
    await catalog.propose_generation(INDEX, GENERATION, FINGERPRINT, {}, follower.position)
    records = await catalog.get_images(INDEX, [number_id(1), number_id(2)])
    folded = {image_id: record.version for image_id, record in records.items()}
    await catalog.put_images(INDEX, [image(2, content=b"new", patches={FEATURES: b"new"})])
    await catalog.prepare_generation(INDEX, GENERATION)
    assert await catalog.forget_patches(INDEX, GENERATION, folded, FEATURES) == 0  # not the active one yet
    await catalog.activate_generation(INDEX, GENERATION)
    assert await catalog.forget_patches(INDEX, GENERATION, folded, FEATURES) == 1
    assert list(await catalog.get_patches(INDEX, list(folded), FEATURES)) == [number_id(2)]


async def test_stored_patches_are_listed_in_steps_with_the_version_they_were_written_with(
    catalog: Catalog,
) -> None:
    await catalog.put_images(INDEX, [image(n, patches={FEATURES: b"p"}) for n in range(1, 6)])
    before = await catalog.get_images(INDEX, [number_id(n) for n in range(1, 6)])
    await catalog.patch_image(INDEX, number_id(1), metadata={"colour": "red"})
    seen: dict[uuid.UUID, int] = {}
    after = None
    while step := await catalog.stored_patches(INDEX, FEATURES, after, 2):
        seen |= step
        after = max(step, key=lambda image_id: image_id.bytes)
    assert seen == {image_id: record.version for image_id, record in before.items()}
    assert await catalog.stored_patches(INDEX, "patches-b", None, 2) == {}


async def test_a_measurement_is_kept_with_its_index(catalog: Catalog) -> None:
    assert await catalog.rerank_profile(INDEX) is None
    profile = {"fusion": {"version": 1, "weights": {"maxsim": 1.5}}, "on": True}
    await catalog.set_rerank_profile(INDEX, profile)
    assert await catalog.rerank_profile(INDEX) == profile
    assert await catalog.rerank_profile("unknown") is None
