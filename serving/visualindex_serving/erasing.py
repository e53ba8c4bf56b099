"""Erasing an original and what is made of it, so that a thumbnail made at the same time does not stay."""

from visualindex.objectstore import original_key, thumbnail_keys
from visualindex.spec.models import StorageSpec
from visualindex_serving.index_service import IndexService


async def erase_objects(service: IndexService, digest: bytes) -> None:
    """Delete an original, then its thumbnails: in this order, on which `thumbnail_making` rests.

    Two calls, because a store may delete the keys of one call in any order.
    """
    await service.store.delete([original_key(service.name, digest)])
    await erase_thumbnails(service, digest)


async def erase_thumbnails(service: IndexService, digest: bytes) -> None:
    """Delete the thumbnails of an original, of the sizes made now and by default.

    Those of any other sizes that `storage.thumbnailSizes` once had stay: finding them means listing.
    """
    sizes = {*service.resource.spec.storage.thumbnail_sizes, *StorageSpec().thumbnail_sizes}
    await service.store.delete(thumbnail_keys(service.name, digest, sorted(sizes)))
