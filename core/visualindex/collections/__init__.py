"""Picture collections to try a search service on: free images with categories, fetched from Debian packages."""

from visualindex.collections.fetch import COLLECTIONS, fetch_collection
from visualindex.collections.manifest import MANIFEST, Collection, Item, read_manifest, write_manifest

__all__ = [
    "COLLECTIONS",
    "MANIFEST",
    "Collection",
    "Item",
    "fetch_collection",
    "read_manifest",
    "write_manifest",
]
