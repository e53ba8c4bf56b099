"""Generations that nobody needs any more: their manifests go first, then the parts that no other names."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.manifest import Manifest
from visualindex.generations.publishing import list_generations, manifest_at, named
from visualindex.objectstore import (
    ObjectStore,
    manifest_key,
    part_key,
    part_prefix,
    pending_key,
    pending_prefix,
)

_BATCH = 1_000
_ABANDONED = timedelta(days=1)
"""A publication that has not ended by then never will."""


async def retire(store: ObjectStore, index: str, generation: str, kept: Iterable[str]) -> int:
    """Delete a generation from the object store; returns how many parts went with it.

    Parts stay that any other published generation names, or one that is being published. What an earlier retirement left
    goes as well, and what a publication left that crashed before its manifest was there. `kept` are the generations that
    must be complete afterwards. The caller sees to it that no shard of this index begins to be published meanwhile
    (`Catalog.publishing_turn`).

    Raises ProblemError: INVALID_REQUEST for a generation that is kept; and, before any part is deleted, whatever keeps a
    manifest from being read, since nobody knows then which parts it names.
    """
    needed = sorted(set(kept))
    if generation in needed:
        raise ProblemError(
            ProblemType.INVALID_REQUEST,
            f"generation {generation} of index {index} is to be kept: activate another before it is retired",
        )
    held = await _held(store, index, generation, needed)
    await store.delete([manifest_key(index, generation), pending_key(index, generation)])
    return await _delete_parts(store, index, held)


async def published_long_ago(store: ObjectStore, index: str) -> list[str]:
    """The generations that were published more than a day ago: one that nobody knows by then never will be known."""
    published = await list_generations(store, index)
    return [name for name in published if await _is_old(store, manifest_key(index, name))]


async def _is_old(store: ObjectStore, key: str) -> bool:
    found = await store.stat(key)
    return found is not None and datetime.now(UTC) - found.modified > _ABANDONED


async def _held(store: ObjectStore, index: str, generation: str, needed: Iterable[str]) -> set[str]:
    """Keys of the parts that must stay.

    Pending manifests are read first: one that is gone a moment later was published, and is listed then.
    """
    manifests = await _pending(store, index, generation)
    published = set(await list_generations(store, index)) | set(needed)
    manifests += [
        await manifest_at(store, manifest_key(index, other), index, other)
        for other in sorted(published - {generation})
    ]
    return {
        part_key(index, bytes.fromhex(part))
        for manifest in manifests
        for shard in manifest.shards
        for entry in shard.files
        for part in entry.parts
    }


async def _pending(store: ObjectStore, index: str, generation: str) -> list[Manifest]:
    """The manifests of publications on their way; those of abandoned ones are deleted."""
    manifests = list[Manifest]()
    for other in await named(store, pending_prefix(index)):
        key = pending_key(index, other)
        found = await store.stat(key)
        if found is None or other == generation:
            continue
        if datetime.now(UTC) - found.modified > _ABANDONED:
            await store.delete([key])
        elif (manifest := await _still_pending(store, index, other)) is not None:
            manifests.append(manifest)
    return manifests


async def _still_pending(store: ObjectStore, index: str, name: str) -> Manifest | None:
    """None where the publication has just ended."""
    try:
        return await manifest_at(store, pending_key(index, name), index, name)
    except ProblemError as problem:
        if problem.type is not ProblemType.NOT_FOUND:
            raise
        return None


async def _delete_parts(store: ObjectStore, index: str, held: set[str]) -> int:
    deleted, batch = 0, list[str]()
    async for key in store.list(part_prefix(index)):
        if key not in held:
            batch.append(key)
        if len(batch) == _BATCH:
            await store.delete(batch)
            deleted, batch = deleted + len(batch), []
    await store.delete(batch)
    return deleted + len(batch)
