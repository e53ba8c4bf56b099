"""What every object store promises, asked of the local folder and of a real S3 server alike."""

import asyncio
import hashlib
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import ObjectStore


async def _keys(store: ObjectStore, prefix: str) -> set[str]:
    found = [key async for key in store.list(prefix)]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("size", [0, 1, 4095, 70_000, 9 * 1024**2])
async def test_what_was_put_is_what_one_gets(store: ObjectStore, size: int) -> None:
    """Content of any size comes back byte for byte, also beyond the size at which clients start multipart uploads."""
    content = secrets.token_bytes(size)
    await store.put("shop/originals/aa/one", content, content_type="image/jpeg")
    assert await store.get("shop/originals/aa/one") == content


async def test_stat_describes_an_object(store: ObjectStore) -> None:
    """Size, media type and time are those of the put."""
    await store.put("shop/one", b"12345", content_type="image/webp")
    found = await store.stat("shop/one")
    assert found is not None
    assert (found.size, found.content_type) == (5, "image/webp")
    assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=5)


@pytest.mark.parametrize("size", [0, 1, 3 * 1024**2 + 7])
async def test_what_is_verified_is_as_stat_describes_it(store: ObjectStore, size: int) -> None:
    """Of an object that is whole; of none it is None."""
    await store.put("shop/one", secrets.token_bytes(size), content_type="image/webp")
    found = await store.verify("shop/one")
    assert found is not None
    assert found.size == size
    assert found == await store.stat("shop/one")
    assert await store.verify("shop/two") is None


async def test_the_etag_follows_the_content(store: ObjectStore) -> None:
    """Equal content has an equal etag, other content another."""
    await store.put("a", b"same", content_type="image/png")
    await store.put("b", b"same", content_type="image/png")
    await store.put("c", b"else", content_type="image/png")
    a, b, c = [await store.stat(key) for key in "abc"]
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.etag == b.etag != c.etag


async def test_a_put_replaces_content_of_the_same_size(store: ObjectStore) -> None:
    """A key that is not a content address may be rewritten, even with as many bytes."""
    await store.put("state/pointer", b"old", content_type="text/plain")
    await store.put("state/pointer", b"new", content_type="text/plain")
    assert await store.get("state/pointer") == b"new"


async def test_a_put_replaces_the_media_type_alone(store: ObjectStore) -> None:
    """The same bytes under another media type are not taken for already stored."""
    await store.put("one", b"bytes", content_type="application/octet-stream")
    await store.put("one", b"bytes", content_type="image/png")
    found = await store.stat("one")
    assert found is not None
    assert found.content_type == "image/png"


async def test_a_put_of_what_is_there_is_a_put_of_now(store: ObjectStore) -> None:
    """Whoever puts the same again keeps it from being taken for abandoned."""
    await store.put("pending/one", b"same", content_type="application/json")
    first = await _modified(store, "pending/one")
    async with asyncio.timeout(10):
        while await _modified(store, "pending/one") <= first:
            await asyncio.sleep(0.1)  # a store may tell whole seconds
            await store.put("pending/one", b"same", content_type="application/json")


async def _modified(store: ObjectStore, key: str) -> datetime:
    found = await store.stat(key)
    assert found is not None
    return found.modified


async def test_a_missing_object_is_a_problem_with_its_key(store: ObjectStore) -> None:
    """`get` of nothing says which key was missing; `stat` of nothing is None."""
    with pytest.raises(ProblemError, match="shop/absent") as caught:
        await store.get("shop/absent")
    assert caught.value.type is ProblemType.NOT_FOUND
    assert await store.stat("shop/absent") is None


async def test_delete_takes_many_keys_and_forgives_missing_ones(store: ObjectStore) -> None:
    """More keys than one S3 request carries, some of them absent; the others stay."""
    keys = [f"shop/{number:04}" for number in range(40)]
    for key in [*keys, "other/kept"]:
        await store.put(key, b"x", content_type="image/png")
    await store.delete([*keys, *(f"shop/never-{number}" for number in range(1100))])
    assert await _keys(store, "") == {"other/kept"}
    await store.delete(keys)
    await store.delete([])


async def test_list_takes_a_prefix_of_characters(store: ObjectStore) -> None:
    """A prefix may end inside a segment and never matches a sibling whose name merely contains it."""
    keys = {"shop/a/1", "shop/a/2", "shop/ab/3", "shop2/a/4", "top"}
    for key in keys:
        await store.put(key, b"x", content_type="image/png")
    assert await _keys(store, "") == keys
    assert await _keys(store, "shop/a") == {"shop/a/1", "shop/a/2", "shop/ab/3"}
    assert await _keys(store, "shop/a/") == {"shop/a/1", "shop/a/2"}
    assert await _keys(store, "shop/a/2") == {"shop/a/2"}
    assert await _keys(store, "nothing/") == set()


async def test_list_goes_beyond_one_page(store: ObjectStore) -> None:
    """Every key comes once, also when there are more than one page holds."""
    wanted = {f"many/{number:04}" for number in range(1050)}
    for chunk in range(0, 1050, 50):
        puts = (store.put(f"many/{n:04}", b"", content_type="image/png") for n in range(chunk, chunk + 50))
        await asyncio.gather(*puts)
    assert await _keys(store, "many/") == wanted


async def test_concurrent_puts_of_one_key_leave_one_whole_object(store: ObjectStore) -> None:
    """Twenty writers of the same content address, and readers meanwhile: whole or absent, never torn."""
    content = secrets.token_bytes(300_000)
    key = f"shop/originals/{hashlib.sha256(content).hexdigest()}"

    async def read() -> bytes | ProblemType:
        try:
            return await store.get(key)
        except ProblemError as problem:
            return problem.type

    puts = [store.put(key, content, content_type="image/jpeg") for _ in range(20)]
    results = await asyncio.gather(*puts, *(read() for _ in range(20)))
    assert set(results) <= {None, ProblemType.NOT_FOUND, content}
    assert await store.get(key) == content
    assert await _keys(store, "") == {key}


async def test_check_passes_and_leaves_nothing(store: ObjectStore) -> None:
    """A store that works says so and holds nothing of the check afterwards."""
    await store.check()
    assert await _keys(store, "") == set()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a b",
        "a/=ff/b",
        "ä",
        "x" * 600,
        "a\n",
    ],
)
async def test_unsafe_keys_are_refused(store: ObjectStore, key: str) -> None:
    """No key can leave the store or mean two things."""
    for attempt in (
        store.get(key),
        store.stat(key),
        store.delete([key]),
        store.put(key, b"", content_type="a/b"),
    ):
        with pytest.raises(ProblemError) as caught:
            await attempt
        assert caught.value.type is ProblemType.INVALID_REQUEST
    assert await _keys(store, "") == set()


@pytest.mark.parametrize("prefix", ["../", "a/../", "=", "a\\"])
async def test_unsafe_prefixes_are_refused(store: ObjectStore, prefix: str) -> None:
    """Listing cannot leave the store either."""
    with pytest.raises(ProblemError, match="no object key can start with"):
        await _keys(store, prefix)
