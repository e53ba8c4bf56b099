"""Originals are erased when no image needs them, and never from under a write that was acknowledged."""

import asyncio

import pytest

from visualindex.catalog import Catalog
from visualindex.identity import content_digest

from .scene import FINGERPRINT, INDEX, image, number_id, vector


class Originals:
    """An object store of digests, slow enough to be overtaken."""

    def __init__(self) -> None:
        self.kept: set[bytes] = set()
        self.erasing = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def store(self, digest: bytes) -> None:
        self.kept.add(digest)

    async def erase(self, index: str, digest: bytes) -> None:
        assert index == INDEX
        self.erasing.set()
        await self.go_on.wait()
        self.kept.discard(digest)


async def test_an_original_is_erased_once_no_image_needs_it(catalog: Catalog) -> None:
    originals = Originals()
    shared = content_digest(b"shared")
    await originals.store(shared)
    await catalog.put_images(INDEX, [image(1, content=b"shared"), image(2, content=b"shared")])
    await catalog.delete_image(INDEX, number_id(1))
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 0
    assert originals.kept == {shared}
    await catalog.delete_image(INDEX, number_id(2))
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 1
    assert originals.kept == set()
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 0


async def test_two_images_deleted_at_once_leave_no_original_behind(catalog: Catalog) -> None:
    originals = Originals()
    await originals.store(content_digest(b"shared"))
    await catalog.put_images(INDEX, [image(number, content=b"shared") for number in range(4)])
    await asyncio.gather(*(catalog.delete_image(INDEX, number_id(number)) for number in range(4)))
    await catalog.sweep_erasures(originals.erase, [INDEX])
    assert originals.kept == set()


async def test_replaced_content_is_erased(catalog: Catalog) -> None:
    originals = Originals()
    await originals.store(content_digest(b"old"))
    await originals.store(content_digest(b"new"))
    await catalog.put_images(INDEX, [image(1, content=b"old")])
    await catalog.put_images(INDEX, [image(1, content=b"new")])
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 1
    assert originals.kept == {content_digest(b"new")}


async def test_an_upload_that_races_with_the_sweep_keeps_its_original(catalog: Catalog) -> None:
    """The original is stored, then erased by a sweep that began before, then the write commits: it must be stored again."""
    originals = Originals()
    digest = content_digest(b"shared")
    await originals.store(digest)
    await catalog.put_images(INDEX, [image(1, content=b"shared")])
    await catalog.delete_image(INDEX, number_id(1))
    originals.go_on.clear()
    sweep = asyncio.create_task(catalog.sweep_erasures(originals.erase, [INDEX]))
    await originals.erasing.wait()
    await originals.store(digest)
    again = [image(2, content=b"shared")]
    put = asyncio.create_task(catalog.put_images(INDEX, again, ensure_objects=originals.store))
    done, _ = await asyncio.wait({put}, timeout=0.3)
    assert not done, "the write must wait for the sweep that has its original"
    originals.go_on.set()
    await asyncio.gather(sweep, put)
    assert originals.kept == {digest}
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 0
    assert originals.kept == {digest}


async def test_an_upload_long_after_the_erasure_began_is_checked_too(catalog: Catalog) -> None:
    originals = Originals()
    digest = content_digest(b"shared")
    await catalog.put_images(INDEX, [image(1, content=b"shared")])
    await catalog.delete_image(INDEX, number_id(1))
    await originals.store(digest)
    await catalog.sweep_erasures(originals.erase, [INDEX])
    await catalog.put_images(INDEX, [image(2, content=b"shared")], ensure_objects=originals.store)
    assert originals.kept == {digest}


async def test_a_write_that_holds_an_original_keeps_the_sweep_off(catalog: Catalog) -> None:
    originals = Originals()
    digest = content_digest(b"shared")
    await catalog.put_images(INDEX, [image(1, content=b"shared")])
    await catalog.delete_image(INDEX, number_id(1))
    inside, leave = asyncio.Event(), asyncio.Event()

    async def ensure(wanted: bytes) -> None:
        await originals.store(wanted)
        inside.set()
        await leave.wait()

    put = asyncio.create_task(catalog.put_images(INDEX, [image(2, content=b"shared")], ensure_objects=ensure))
    await inside.wait()
    sweep = asyncio.create_task(catalog.sweep_erasures(originals.erase, [INDEX]))
    done, _ = await asyncio.wait({sweep}, timeout=0.3)
    assert not done
    leave.set()
    await put
    assert await sweep == 0
    assert originals.kept == {digest}


async def test_an_erasure_that_fails_is_tried_by_the_next_sweep(catalog: Catalog) -> None:
    originals = Originals()
    await originals.store(content_digest(b"one"))
    await originals.store(content_digest(b"two"))
    await catalog.put_images(INDEX, [image(1, content=b"one"), image(2, content=b"two")])
    await catalog.delete_image(INDEX, number_id(1))
    await catalog.delete_image(INDEX, number_id(2))

    async def fail_one(index: str, digest: bytes) -> None:
        if digest == content_digest(b"one"):
            raise OSError("the store is away")
        await originals.erase(index, digest)

    assert await catalog.sweep_erasures(fail_one, [INDEX]) == 1
    assert originals.kept == {content_digest(b"one")}
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 1
    assert originals.kept == set()


async def test_erasures_that_fail_keep_nobody_waiting(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    originals = Originals()
    bad = {content_digest(b"one"), content_digest(b"two")}
    await catalog.put_images(INDEX, [image(1, content=b"one"), image(2, content=b"two")])
    await catalog.put_images(INDEX, [image(3, content=b"three")])
    await originals.store(content_digest(b"three"))
    for number in (1, 2, 3):
        await catalog.delete_image(INDEX, number_id(number))

    async def fail_bad(index: str, digest: bytes) -> None:
        if digest in bad:
            raise OSError("this one cannot be deleted")
        await originals.erase(index, digest)

    assert await catalog.sweep_erasures(fail_bad, [INDEX], limit=2) == 0
    assert [record.message[:27] for record in caplog.records] == ["erasing 2 originals failed "]
    assert await catalog.sweep_erasures(fail_bad, [INDEX], limit=2) == 1
    assert originals.kept == set()


async def test_originals_of_indexes_that_are_not_named_are_kept(catalog: Catalog) -> None:
    """They are another service's, whose store this one may not know."""
    originals = Originals()
    await originals.store(content_digest(b"one"))
    await catalog.put_images(INDEX, [image(1, content=b"one")])
    await catalog.delete_image(INDEX, number_id(1))
    assert await catalog.sweep_erasures(originals.erase, ["another"]) == 0
    assert originals.kept == {content_digest(b"one")}
    assert await catalog.sweep_erasures(originals.erase, [INDEX]) == 1


async def test_deleting_an_image_deletes_its_vectors(catalog: Catalog) -> None:
    both = {(0, FINGERPRINT): vector(1), (1, FINGERPRINT): vector(2)}
    await catalog.put_images(INDEX, [image(1, embeddings=both)])
    await catalog.delete_image(INDEX, number_id(1))
    assert await catalog.get_vectors(INDEX, [number_id(1)], FINGERPRINT, region=1) == {}


async def test_what_is_derived_is_erased_once_more_when_the_mark_ends(catalog: Catalog) -> None:
    """Only after the time that is given, only once, and without the original, which may be needed again by then."""
    originals, derived = Originals(), Originals()
    await catalog.put_images(INDEX, [image(1, content=b"one")])
    await catalog.delete_image(INDEX, number_id(1))
    assert await catalog.forget_erasures(derived.erase, [INDEX], keep_s=0) == 0
    await catalog.sweep_erasures(originals.erase, [INDEX])
    await derived.store(content_digest(b"one"))
    for keep_s, indexes in ((3600, [INDEX]), (0, ["another"])):
        assert await catalog.forget_erasures(derived.erase, indexes, keep_s=keep_s) == 0
        assert derived.kept == {content_digest(b"one")}
    assert await catalog.forget_erasures(derived.erase, [INDEX], keep_s=0) == 1
    assert derived.kept == set()
    assert await catalog.forget_erasures(derived.erase, [INDEX], keep_s=0) == 0


async def test_a_mark_stays_until_what_is_derived_is_gone(catalog: Catalog) -> None:
    originals, derived = Originals(), Originals()
    await catalog.put_images(INDEX, [image(1, content=b"one"), image(2, content=b"two")])
    for number in (1, 2):
        await catalog.delete_image(INDEX, number_id(number))
    await catalog.sweep_erasures(originals.erase, [INDEX])
    derived.kept = {content_digest(b"one"), content_digest(b"two")}

    async def fail_one(index: str, digest: bytes) -> None:
        if digest == content_digest(b"one"):
            raise OSError("the store is away")
        await derived.erase(index, digest)

    assert await catalog.forget_erasures(fail_one, [INDEX], keep_s=0) == 1
    assert derived.kept == {content_digest(b"one")}
    assert await catalog.forget_erasures(derived.erase, [INDEX], keep_s=0) == 1
    assert derived.kept == set()
