"""Generations that were published and never proposed: no row of the catalog names them, so nobody else deletes them.

A build is killed between the two, or the database is away then, or it is restored to a time before the proposal. The next
build makes another generation, as it begins at another moment.
"""

from visualindex.catalog import Catalog
from visualindex.generations import published_long_ago, retire
from visualindex.objectstore import ObjectStore


async def find_abandoned(catalog: Catalog, store: ObjectStore, index: str) -> list[str]:
    """Those older than a day; none where the catalog knows no generation at all, which may be the wrong catalog."""
    names, _ = await _found(catalog, store, index)
    return names


async def retire_abandoned(catalog: Catalog, store: ObjectStore, index: str) -> list[str]:
    """Delete what `find_abandoned` finds from the object store, and return it. Raises ProblemError as `retire`."""
    names, kept = await _found(catalog, store, index)
    for name in names:
        async with catalog.publishing_turn(index):
            await retire(store, index, name, kept)
    return names


async def _found(catalog: Catalog, store: ObjectStore, index: str) -> tuple[list[str], list[str]]:
    """Those, and known ones whose objects must stay. A job that is a day late has lost its lease, and proposes nothing."""
    published = await published_long_ago(store, index)
    ended, kept = await catalog.retired_generations(index, 0)
    known = {*ended, *kept}
    return [name for name in published if known and name not in known], kept
