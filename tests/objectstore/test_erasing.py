"""Erasing below a prefix takes an index's objects and no other's, in batches."""

from visualindex.objectstore import ObjectStore, erase_prefix, index_prefix, original_key, thumbnail_key

MANY = 1_200


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def put(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        await store.put(key, b"x", content_type="image/png")


async def listed(store: ObjectStore) -> set[str]:
    return {key async for key in store.list("")}


def test_the_keys_of_an_index_start_with_its_prefix() -> None:
    keys = (original_key("shop", digest(1)), thumbnail_key("shop", digest(1), 128))
    assert all(key.startswith(index_prefix("shop")) for key in keys)
    assert not original_key("shop-2", digest(1)).startswith(index_prefix("shop"))


async def test_all_of_an_index_goes_and_nothing_of_another(store: ObjectStore) -> None:
    others = {original_key(name, digest(1)) for name in ("shop-2", "sho", "shop2", "a-shop")}
    ours = (original_key("shop", digest(1)), thumbnail_key("shop", digest(1), 128), "shop/later/part")
    await put(store, *others, *ours)
    assert await erase_prefix(store, index_prefix("shop"), in_time=lambda: True) == (3, True)
    assert await listed(store) == others
    assert await erase_prefix(store, index_prefix("shop"), in_time=lambda: True) == (0, True)


async def test_it_stops_between_batches_and_goes_on_when_repeated(store: ObjectStore) -> None:
    await put(store, *(original_key("shop", digest(number)) for number in range(MANY)))
    once = iter([True])
    erased, finished = await erase_prefix(store, index_prefix("shop"), in_time=lambda: next(once, False))
    assert (erased, finished) == (1_000, False)
    assert len(await listed(store)) == MANY - erased
    assert await erase_prefix(store, index_prefix("shop"), in_time=lambda: True) == (MANY - erased, True)
