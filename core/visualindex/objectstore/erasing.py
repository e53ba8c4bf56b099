"""Erasing everything below a prefix, for an index that is deleted."""

from collections.abc import Callable

from visualindex.objectstore.base import ObjectStore

_BATCH = 1_000


async def erase_prefix(store: ObjectStore, prefix: str, *, in_time: Callable[[], bool]) -> tuple[int, bool]:
    """Deletes the objects whose keys start with `prefix`, in batches, as long as `in_time` says so.

    Returns how many, and whether that was all: False when time ran out first.
    """
    erased, batch = 0, list[str]()
    async for key in store.list(prefix):
        batch.append(key)
        if len(batch) == _BATCH:
            if not in_time():
                return erased, False
            await store.delete(batch)
            erased, batch = erased + len(batch), []
    if batch and not in_time():
        return erased, False
    await store.delete(batch)
    return erased + len(batch), True
