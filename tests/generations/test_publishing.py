"""Publishing: parts first, the manifest last, and at no byte of it anything but the old state or the new one."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from tests.generations.conftest import PART, Shards, described, noise
from tests.generations.stores import Fault, Observed, everything
from tests.objectstore.conftest import MinioServer, minio_binary, shared_minio

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import Manifest, NodeCache, list_generations, publish, read_manifest
from visualindex.objectstore import LocalObjectStore, ObjectStore, manifest_key, part_key, part_prefix
from visualindex.objectstore.s3 import S3ObjectStore

__all__ = ["minio_binary", "shared_minio"]  # fixtures


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.minio)])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty store of each implementation."""
    if request.param == "local":
        opened: ObjectStore = LocalObjectStore(tmp_path / "store")
    else:
        server: MinioServer = request.getfixturevalue("shared_minio")
        opened = S3ObjectStore(
            server.spec(server.new_bucket(), "some/prefix"), server.access_key, server.secret_key
        )
    yield opened
    await opened.close()


async def is_whole(store: ObjectStore, manifest: Manifest, built: Path) -> bool:
    """Whether the store gives every file of the generation as it was built."""
    for number, shard in enumerate(manifest.shards):
        for entry in shard.files:
            keys = [part_key("shop", bytes.fromhex(part)) for part in entry.parts]
            data = b"".join([await store.get(key) for key in keys])
            if data != (built / str(number) / entry.name).read_bytes():
                return False
    return True


async def test_what_is_published_can_be_listed_read_and_fetched(
    any_store: ObjectStore, shards: Shards, tmp_path: Path
) -> None:
    """From any store: the manifest says what was given, and a node gets the same bytes."""
    manifest = await shards.publish(any_store)
    assert [(shard.buckets, shard.images) for shard in manifest.shards] == [
        (range(10), 10),
        (range(10, 20), 10),
    ]
    assert [entry.name for entry in manifest.shards[0].files] == [
        "by_id.bin",
        "empty.bin",
        "ids.bin",
        "vectors.f16",
    ]
    assert await list_generations(any_store, "shop") == [manifest.generation]
    assert await list_generations(any_store, "sho") == []
    assert await read_manifest(any_store, "shop", manifest.generation) == manifest
    assert await is_whole(any_store, manifest, shards.root)
    with await NodeCache(tmp_path / "cache", 1 << 30).fetch(any_store, "shop", manifest, 1) as lease:
        for path in (shards.root / "1").iterdir():
            assert (lease.directory / path.name).read_bytes() == path.read_bytes()


async def test_equal_parts_are_stored_once(store: LocalObjectStore, shards: Shards) -> None:
    """Within a generation and across two: only what differs takes room."""
    shards.write(0, "again.bin", noise(3 * PART + 7, seed=0))
    first = await shards.publish(store)
    before = await everything(store)
    shards.write(1, "ids.bin", noise(PART, seed=99))
    second = await shards.publish(store)
    assert first.generation != second.generation
    new = set(await everything(store)) - set(before)
    assert len([key for key in before if key.startswith(part_prefix("shop"))]) == 12
    assert new == {
        manifest_key("shop", second.generation),
        part_key("shop", bytes.fromhex(second.shards[1].files[2].parts[0])),
    }


async def test_a_repeat_uploads_nothing_and_keeps_the_first_manifest(
    store: LocalObjectStore, shards: Shards
) -> None:
    """The same input on another day is the generation that is there, as it is there."""
    first = await shards.publish(store)
    before = await everything(store)
    observed = Observed(store)
    second = await shards.publish(observed, created_at="tomorrow", recall={})
    assert second == first
    assert [key for key in observed.keys("put") if "/pending/" not in key] == []
    assert await everything(store) == before


async def test_a_part_that_was_lost_or_cut_short_is_put_back(store: LocalObjectStore, shards: Shards) -> None:
    """Publishing again is the remedy for objects that are gone or have another size."""
    manifest = await shards.publish(store)
    before = await everything(store)
    parts = [part_key("shop", bytes.fromhex(part)) for part in manifest.shards[0].files[3].parts]
    await store.delete(parts[:1])
    await store.put(parts[1], b"short", content_type="text/plain")
    await shards.publish(store)
    assert await everything(store) == before


async def test_a_part_with_a_damaged_byte_is_put_back(
    store: LocalObjectStore, shards: Shards, tmp_path: Path
) -> None:
    """Of the right size, with a trailer that is whole: only who reads it all can tell."""
    manifest = await shards.publish(store)
    before = await everything(store)
    digest = manifest.shards[0].files[3].parts[1]
    [file] = (tmp_path / "store").rglob(digest)
    flipped = bytearray(file.read_bytes())
    flipped[PART // 2] ^= 1
    file.write_bytes(flipped)
    with pytest.raises(ProblemError, match="damaged on disk"):
        await NodeCache(tmp_path / "cache", 1 << 30).fetch(store, "shop", manifest, 0)
    observed = Observed(store)
    await shards.publish(observed)
    assert [key for key in observed.keys("put") if key.startswith(part_prefix("shop"))] == [
        part_key("shop", bytes.fromhex(digest))
    ]
    assert await everything(store) == before
    (await NodeCache(tmp_path / "cache", 1 << 30).fetch(store, "shop", manifest, 0)).release()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_operation_leaves_the_old_state_or_the_new_one(
    store: LocalObjectStore, shards: Shards, tmp_path: Path, when: str
) -> None:
    """Whether the operation took effect or not: what is listed is whole, and a repeat uploads only what is missing."""
    old = await shards.publish(store)
    built_old = tmp_path / "built-old"
    shards.root.rename(built_old)
    for shard in range(2):
        shards.write(shard, "ids.bin", noise(PART, 10 + shard))  # as before
        shards.write(shard, "vectors.f16", noise(4 * PART, 50 + shard))
    number, happened, outcomes = 0, True, set[int]()
    while happened:
        number += 1
        fault = Fault(number)
        try:
            await shards.publish(Observed(store, **{when: fault}))
        except ProblemError:
            assert fault.happened
        listed = set(await list_generations(store, "shop"))
        outcomes.add(len(listed))
        assert await is_whole(store, old, built_old)
        for generation in listed - {old.generation}:
            manifest = await read_manifest(store, "shop", generation)
            assert await is_whole(store, manifest, shards.root)
        happened = fault.happened
    assert number > 4
    assert outcomes == {1, 2}


async def test_a_publication_that_failed_goes_on_where_it_ended(
    store: LocalObjectStore, shards: Shards
) -> None:
    """Parts that arrived are not sent again."""
    failing = Observed(store, before=Fault(14))
    with pytest.raises(ProblemError):
        await shards.publish(failing)
    there = {key async for key in store.list(part_prefix("shop"))}
    assert there
    repeated = Observed(store)
    await shards.publish(repeated)
    assert not there & set(repeated.keys("put"))


async def test_the_manifest_comes_last(store: LocalObjectStore, shards: Shards) -> None:
    """Whoever sees it finds every part."""
    observed = Observed(store)
    manifest = await shards.publish(observed)
    assert observed.keys("put")[-1] == manifest_key("shop", manifest.generation)
    assert len(observed.keys("put")) == 2 + 12 + 1


async def test_a_file_that_changes_meanwhile_is_not_published(
    store: LocalObjectStore, shards: Shards
) -> None:
    """Its parts would not be what their names say."""

    seeds = count(77)

    async def write(operation: str, _key: str) -> None:
        if operation == "put":
            shards.write(1, "vectors.f16", noise(3 * PART + 7, next(seeds)))

    with pytest.raises(ProblemError, match=r"vectors\.f16 changed while it was published"):
        await shards.publish(Observed(store, before=write))
    assert await list_generations(store, "shop") == []


async def test_what_a_manifest_cannot_list_is_refused(store: LocalObjectStore, shards: Shards) -> None:
    """Folders, links and unsafe names, before anything is uploaded; a directory that is missing is named."""
    (shards.root / "0" / "folder").mkdir()
    with pytest.raises(ProblemError, match=r"folder is not a plain file"):
        await shards.publish(store)
    (shards.root / "0" / "folder").rmdir()
    shards.write(0, "über", b"")
    with pytest.raises(ProblemError, match="cannot hold a file named 'über'"):
        await shards.publish(store)
    with pytest.raises(ProblemError, match=r"missing cannot be read"):
        await publish(store, "shop", described(), [(range(1), 1, shards.root / "missing")])
    assert await everything(store) == {}


async def test_a_missing_generation_is_named(store: LocalObjectStore) -> None:
    """With the key at which it was looked for."""
    with pytest.raises(ProblemError, match=r"no generation 0123456789abcdef .*manifests/0123") as caught:
        await read_manifest(store, "shop", "0123456789abcdef")
    assert caught.value.type is ProblemType.NOT_FOUND


async def test_a_damaged_manifest_is_named_and_put_back_by_a_repeat(
    store: LocalObjectStore, shards: Shards
) -> None:
    """The message names the object; publishing again heals it."""
    manifest = await shards.publish(store)
    key = manifest_key("shop", manifest.generation)
    await store.put(key, manifest.to_json()[:-9], content_type="application/json")
    with pytest.raises(ProblemError, match=rf"object {key}: .* damaged"):
        await read_manifest(store, "shop", manifest.generation)
    await shards.publish(store)
    assert await read_manifest(store, "shop", manifest.generation) == manifest


async def test_a_manifest_under_another_name_is_refused(store: LocalObjectStore, shards: Shards) -> None:
    """A copy is not the generation that its key says."""
    manifest = await shards.publish(store)
    key = manifest_key("shop", "0" * 16)
    await store.put(key, manifest.to_json(), content_type="application/json")
    with pytest.raises(ProblemError, match=f"object {key} holds the manifest of index shop, generation"):
        await read_manifest(store, "shop", "0" * 16)
