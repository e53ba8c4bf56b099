"""Images whose objects are gone: found by holding what is noted of a prefix against what the bucket lists."""

from collections.abc import AsyncIterator, Callable

from visualindex.catalog import Catalog, Fence, Origin
from visualindex.ingesting.source_objects import ObjectsSource


async def remove_gone(
    catalog: Catalog,
    index: str,
    source: ObjectsSource,
    fence: Fence | None,
    wanted: Callable[[], None],
) -> int:
    """Delete the images whose objects are gone; returns how many went. `wanted` raises when nobody wants it any more.

    Both lists come in the order of the keys' bytes, so neither is ever held whole. An object that is not listed is looked
    for once more by itself before its image goes.
    """
    located = source.located
    listed = source.pictures()
    present = await anext(listed, None)
    removed = 0
    async for origin in _noted(catalog, index, located.objects.place, located.key):
        wanted()
        while present is not None and present.key < origin.object_key:
            present = await anext(listed, None)
        if present is not None and present.key == origin.object_key:
            continue
        if await located.objects.etag(origin.object_key) is None:
            gone = await catalog.remove_origin(index, origin.place, origin.object_key, fence)
            removed += gone is not None
    return removed


async def _noted(catalog: Catalog, index: str, place: str, prefix: str) -> AsyncIterator[Origin]:
    after = ""
    while page := await catalog.list_origins(index, place, prefix, after):
        for origin in page:
            yield origin
        after = page[-1].object_key
