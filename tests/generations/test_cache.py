"""A node's cache: right bytes or a named problem, whatever happened to its files, its store and its process's plans."""

import asyncio
import dataclasses
import mmap
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.generations.conftest import PART, Shards, noise
from tests.generations.stores import Fault, Observed
from tests.objectstore.test_local_faults import file_size_limit, small_volume

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import Lease, Manifest, NodeCache
from visualindex.objectstore import LocalObjectStore, ObjectStore, part_key

__all__ = ["file_size_limit", "small_volume"]  # fixtures

ROOM = 1_000_000
SHARD = 4_019
"""Bytes of a shard."""


@pytest.fixture
async def published(store: LocalObjectStore, shards: Shards) -> Manifest:
    """A generation of two shards."""
    return await shards.publish(store)


@pytest.fixture
async def observed(store: LocalObjectStore, published: Manifest) -> Observed:
    """The store it lies in, with its operations counted."""
    return Observed(store)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def cached(root: Path) -> dict[str, bytes]:
    """What lies in a cache, but for its lock."""
    return {name: data for name, data in contents(root).items() if name != ".guard"}


async def problem_of(
    cache: NodeCache, store: ObjectStore, manifest: Manifest, shard: int = 0
) -> ProblemError:
    """The problem that a fetch ends with."""
    with pytest.raises(ProblemError) as caught:
        await cache.fetch(store, "shop", manifest, shard)
    return caught.value


async def test_a_lease_holds_the_shards_files(
    observed: Observed, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """Under their names, read-only, until it is released; then its directory is gone and the cache keeps them."""
    cache = NodeCache(tmp_path / "cache", ROOM)
    lease = await cache.fetch(observed, "shop", published, 1)
    assert contents(lease.directory) == contents(shards.root / "1")
    assert not (lease.directory / "ids.bin").stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    lease.release()
    lease.release()
    assert not lease.directory.exists()
    assert len(cached(tmp_path / "cache")) == 4


async def test_what_is_cached_is_not_fetched_again(
    observed: Observed, published: Manifest, tmp_path: Path
) -> None:
    """Neither by the same cache nor by another of the directory, and both share the pages of one file."""
    first = await NodeCache(tmp_path / "cache", ROOM).fetch(observed, "shop", published, 0)
    asked = len(observed.seen)
    second = await NodeCache(tmp_path / "cache", ROOM).fetch(observed, "shop", published, 0)
    assert len(observed.seen) == asked
    assert first.directory != second.directory
    assert (first.directory / "vectors.f16").samefile(second.directory / "vectors.f16")


async def test_generations_share_equal_files(
    observed: Observed, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """A new generation costs what is different in it."""
    cache = NodeCache(tmp_path / "cache", ROOM)
    await cache.fetch(observed, "shop", published, 0)
    shards.write(0, "by_id.bin", noise(12, seed=5))
    new = await shards.publish(observed)
    asked = len(observed.keys("get"))
    await cache.fetch(observed, "shop", new, 0)
    assert len(observed.keys("get")) == asked + 1


async def test_only_what_is_asked_for_is_fetched(
    observed: Observed, published: Manifest, tmp_path: Path
) -> None:
    """By name; a name or a shard that the manifest does not list is a problem."""
    cache = NodeCache(tmp_path / "cache", ROOM)
    lease = await cache.fetch(observed, "shop", published, 0, ["ids.bin"])
    assert list(contents(lease.directory)) == ["ids.bin"]
    assert len(observed.keys("get")) == 1
    with pytest.raises(ProblemError, match=r"no nothing\.bin in shard 0"):
        await cache.fetch(observed, "shop", published, 0, ["nothing.bin", "ids.bin"])
    with pytest.raises(ProblemError, match="no shard 2: it has 2"):
        await cache.fetch(observed, "shop", published, 2)


async def test_progress_ends_with_all_bytes(observed: Observed, published: Manifest, tmp_path: Path) -> None:
    """It rises part by part, and says at once that all is there when it is."""
    told = list[tuple[int, int]]()
    cache = NodeCache(tmp_path / "cache", ROOM)
    await cache.fetch(observed, "shop", published, 0, progress=lambda *both: told.append(both))
    there = [bytes_ for bytes_, _ in told]
    assert {wanted for _, wanted in told} == {SHARD}
    assert there == sorted(there)
    assert (there[0], there[-1]) == (0, SHARD)
    assert len(set(there)) >= 6
    told.clear()
    await cache.fetch(observed, "shop", published, 0, progress=lambda *both: told.append(both))
    assert set(told) == {(SHARD, SHARD)}


async def test_several_at_once_fetch_once(observed: Observed, published: Manifest, tmp_path: Path) -> None:
    """Whoever comes second waits for the first."""
    caches = [NodeCache(tmp_path / "cache", ROOM) for _ in range(4)]
    leases = await asyncio.gather(*(cache.fetch(observed, "shop", published, 0) for cache in caches))
    assert len(observed.keys("get")) == len(set(observed.keys("get"))) == 6
    assert len({tuple(sorted(contents(lease.directory).items())) for lease in leases}) == 1


async def test_a_fetch_that_failed_goes_on_where_it_ended(
    store: LocalObjectStore, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """At whichever part it was: only parts that were on their way are fetched twice, and no lease of it stays."""
    for number in range(1, 7):
        cache = NodeCache(tmp_path / f"cache-{number}", ROOM)
        failing = Observed(store, after=Fault(number))
        await problem_of(cache, failing, published)
        assert list((tmp_path / f"cache-{number}" / "leases").iterdir()) == []
        repeated = Observed(store)
        lease = await cache.fetch(repeated, "shop", published, 0)
        assert contents(lease.directory) == contents(shards.root / "0")
        assert len(repeated.keys("get")) <= min(6, 6 - (number - 1) + 2)


async def test_a_cancelled_fetch_leaves_no_lease_and_can_be_repeated(
    store: LocalObjectStore, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """Wherever it is cancelled: what it had goes on to the next."""
    for number in range(1, 12):
        root = tmp_path / f"cache-{number}"
        await _cancelled(number, NodeCache(root, ROOM), store, published)
        assert list((root / "leases").iterdir()) == []
        lease = await NodeCache(root, ROOM).fetch(store, "shop", published, 0)
        assert contents(lease.directory) == contents(shards.root / "0")


async def _cancelled(number: int, cache: NodeCache, store: ObjectStore, manifest: Manifest) -> None:
    """A fetch that is cancelled before or after the part that `number` counts to."""
    left = iter(range(number))

    async def cancel(_operation: str, _key: str) -> None:
        if next(left, None) is None:
            fetch.cancel()

    fetch = asyncio.create_task(
        cache.fetch(Observed(store, before=cancel, after=cancel), "shop", manifest, 0)
    )
    with pytest.raises(asyncio.CancelledError):
        await fetch


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_damaged_cached_file_is_named_and_fetched_again(
    store: LocalObjectStore,
    published: Manifest,
    shards: Shards,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    data: st.DataObject,
) -> None:
    """Flipped, cut, emptied or longer: the log names it, whoever opens it gets the right bytes."""
    cache = NodeCache(tmp_path / "cache", ROOM)
    (await cache.fetch(store, "shop", published, 0)).release()
    entry = data.draw(st.sampled_from([file for file in published.shards[0].files if file.bytes]))
    _damage(tmp_path / "cache" / "files" / entry.digest, data)
    caplog.clear()
    with await cache.fetch(store, "shop", published, 0) as lease:
        assert contents(lease.directory) == contents(shards.root / "0")
    [record] = caplog.records
    assert entry.name in record.getMessage()
    assert entry.digest in record.getMessage()
    caplog.clear()
    (await cache.fetch(store, "shop", published, 0)).release()
    assert not caplog.records


def _damage(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    match data.draw(st.sampled_from(["flip", "cut", "longer"])):
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case _:
            content += b"\0"
    file.chmod(0o644)
    file.write_bytes(content)


async def test_those_who_use_a_damaged_file_keep_what_they_have(
    store: LocalObjectStore, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """The file is replaced, not rewritten under their mappings."""
    cache = NodeCache(tmp_path / "cache", ROOM)
    old = await cache.fetch(store, "shop", published, 0)
    file = old.directory / "vectors.f16"
    file.chmod(0o644)
    file.write_bytes(b"damaged")
    new = await cache.fetch(store, "shop", published, 0)
    assert file.read_bytes() == b"damaged"
    assert contents(new.directory) == contents(shards.root / "0")


@pytest.mark.parametrize("wrong", ["other bytes", "missing", "damaged on its disk"])
async def test_a_wrong_object_is_named_with_the_remedy(
    store: LocalObjectStore, published: Manifest, tmp_path: Path, wrong: str
) -> None:
    """Nothing of it reaches a lease; once the object is right, the fetch goes on."""
    key = part_key("shop", bytes.fromhex(published.shards[0].files[3].parts[1]))
    right = await store.get(key)
    if wrong == "other bytes":
        await store.put(key, noise(PART, seed=1234), content_type="application/octet-stream")
    elif wrong == "missing":
        await store.delete([key])
    else:
        [file] = (tmp_path / "store").rglob(key.rpartition("/")[2])
        file.write_bytes(file.read_bytes()[:-1])
    problem = await problem_of(NodeCache(tmp_path / "cache", ROOM), store, published)
    assert problem.type is ProblemType.INTERNAL
    assert f"object {key}, a part of vectors.f16 of generation {published.generation}" in problem.detail
    assert "delete it and publish the generation again" in problem.detail
    await store.delete([key])
    await store.put(key, right, content_type="application/octet-stream")
    await NodeCache(tmp_path / "cache", ROOM).fetch(store, "shop", published, 0)


async def test_bytes_that_went_wrong_on_the_way_are_asked_for_again(
    store: LocalObjectStore, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """Once per part, before anybody is told."""

    class Noisy(Observed):
        async def get(self, key: str) -> bytes:
            data = await super().get(key)
            return data if self.keys("get").count(key) > 1 else data[:-1]

    noisy = Noisy(store)
    lease = await NodeCache(tmp_path / "cache", ROOM).fetch(noisy, "shop", published, 0)
    assert contents(lease.directory) == contents(shards.root / "0")
    assert len(noisy.keys("get")) == 12


async def test_a_checksum_that_no_fetch_can_satisfy_is_a_problem(
    store: LocalObjectStore, published: Manifest, tmp_path: Path
) -> None:
    """After the second fetch, not for ever; and nothing of it stays."""
    [first, *rest] = published.shards[0].files
    wrong = dataclasses.replace(first, checksum="0" * 32)
    shard = dataclasses.replace(published.shards[0], files=(wrong, *rest))
    manifest = dataclasses.replace(published, shards=(shard,))
    problem = await problem_of(NodeCache(tmp_path / "cache", ROOM), store, manifest)
    assert "by_id.bin" in problem.detail
    assert "again: check this node's disk and memory" in problem.detail
    assert first.digest not in cached(tmp_path / "cache")


async def test_the_least_recently_used_gives_way(
    observed: Observed, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """Of three generations of a file with room for two, the one that was used longest ago."""
    cache = NodeCache(tmp_path / "cache", 2 * SHARD)
    generations = [published]
    for seed in (1, 2):
        for name, size in (("vectors.f16", 3 * PART + 7), ("ids.bin", PART), ("by_id.bin", 12)):
            shards.write(0, name, noise(size, seed * 1000 + size))
        generations.append(await shards.publish(observed))
    first, second, third = generations
    for manifest in (first, second, first, third):
        (await cache.fetch(observed, "shop", manifest, 0)).release()
    asked = len(observed.keys("get"))
    (await cache.fetch(observed, "shop", first, 0)).release()
    assert len(observed.keys("get")) == asked
    (await cache.fetch(observed, "shop", second, 0)).release()
    assert len(observed.keys("get")) == asked + 6
    assert sum(map(len, cached(tmp_path / "cache").values())) <= 2 * SHARD


async def test_what_is_in_use_does_not_give_way(
    observed: Observed, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """A shard that would not fit beside it is refused, with the bytes, before anything is fetched or deleted."""
    cache = NodeCache(tmp_path / "cache", 2 * SHARD - 1)
    lease = await cache.fetch(observed, "shop", published, 0)
    (await cache.fetch(observed, "shop", published, 1, ["by_id.bin"])).release()
    asked, before = len(observed.keys("get")), cached(tmp_path / "cache")
    problem = await problem_of(cache, observed, published, shard=1)
    assert problem.type is ProblemType.STORAGE_FULL
    assert f"cannot take {SHARD - 12} bytes more" in problem.detail
    assert f"{SHARD + 12} bytes of its {2 * SHARD - 1} are in use" in problem.detail
    assert len(observed.keys("get")) == asked
    assert cached(tmp_path / "cache") == before
    assert contents(lease.directory) == contents(shards.root / "0")
    lease.release()
    (await cache.fetch(observed, "shop", published, 1)).release()


async def test_two_that_fit_alone_do_not_get_in_together(
    observed: Observed, published: Manifest, tmp_path: Path
) -> None:
    """Room is taken when a fetch begins, so that they cannot both count on it."""
    caches = [NodeCache(tmp_path / "cache", 2 * SHARD - 1) for _ in range(2)]
    results = await asyncio.gather(
        *(cache.fetch(observed, "shop", published, shard) for shard, cache in enumerate(caches)),
        return_exceptions=True,
    )
    assert {type(result) for result in results} == {ProblemError, Lease}
    assert len(observed.keys("get")) == 6


async def test_a_mapping_outlives_its_lease_and_its_file(
    observed: Observed, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """Releasing early is no crash: the pages stay until they are unmapped."""
    cache = NodeCache(tmp_path / "cache", SHARD)
    lease = await cache.fetch(observed, "shop", published, 0)
    with (lease.directory / "vectors.f16").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    lease.release()
    await cache.fetch(observed, "shop", published, 1)
    assert published.shards[0].files[3].digest not in cached(tmp_path / "cache")
    assert mapped[:] == (shards.root / "0" / "vectors.f16").read_bytes()
    mapped.close()


async def test_a_full_disk_is_seen_before_anything_is_fetched(
    store: LocalObjectStore, shards: Shards, small_volume: Path
) -> None:
    """The limit would allow it, the volume of 4 MiB does not; what fits is fetched all the same."""
    shards.write(0, "patches.i8", noise(5 * 1024**2))
    manifest = await shards.publish(store, part_bytes=1024**2)
    observed = Observed(store)
    cache = NodeCache(small_volume / "cache", 1 << 40)
    problem = await problem_of(cache, observed, manifest)
    assert problem.type is ProblemType.STORAGE_FULL
    assert "bytes are free on its disk" in problem.detail
    assert observed.keys("get") == []
    assert cached(small_volume) == {}
    (await cache.fetch(store, "shop", manifest, 0, ["ids.bin", "vectors.f16"])).release()


async def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half(
    store: LocalObjectStore, shards: Shards, small_volume: Path
) -> None:
    """Somebody else takes the room: STORAGE_FULL, no partial file, and a repeat works once there is room again."""
    shards.write(0, "patches.i8", noise(3 * 1024**2))
    manifest = await shards.publish(store, part_bytes=1024**2)
    other = small_volume / "other"

    async def fill(operation: str, _key: str) -> None:
        if operation == "get" and not other.exists():
            free = os.statvfs(small_volume)
            other.write_bytes(bytes(free.f_bavail * free.f_frsize - 100_000))

    cache = NodeCache(small_volume / "cache", 1 << 40)
    problem = await problem_of(cache, Observed(store, before=fill), manifest)
    assert problem.type is ProblemType.STORAGE_FULL
    assert "No space left on device" in problem.detail
    assert list((small_volume / "cache" / "partial").iterdir()) == []
    other.unlink()
    with await cache.fetch(store, "shop", manifest, 0) as lease:
        assert contents(lease.directory) == contents(shards.root / "0")


async def test_a_quota_leaves_nothing_half(
    store: LocalObjectStore, shards: Shards, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A file that may not become as long as it has to is STORAGE_FULL, and no trace of it stays."""
    shards.write(0, "patches.i8", noise(1024**2 + 1))
    manifest = await shards.publish(store, part_bytes=100_000)
    request.getfixturevalue("file_size_limit")
    problem = await problem_of(NodeCache(tmp_path / "cache", 10 * ROOM), store, manifest)
    assert problem.type is ProblemType.STORAGE_FULL
    assert cached(tmp_path / "cache") == {}


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in its place: the message names it and the remedy."""
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ProblemError, match=r"cache.*check that it exists, is mounted, writable") as caught:
        NodeCache(tmp_path / "cache", ROOM)
    assert caught.value.type is ProblemType.UNAVAILABLE
