"""Where originals, thumbnails and generations live: one facade over a local folder and an S3 bucket."""

from visualindex.objectstore.base import ObjectStat, ObjectStore
from visualindex.objectstore.layout import all_keys, original_key, thumbnail_key
from visualindex.objectstore.local import LocalObjectStore
from visualindex.objectstore.opening import open_store

__all__ = [
    "LocalObjectStore",
    "ObjectStat",
    "ObjectStore",
    "all_keys",
    "open_store",
    "original_key",
    "thumbnail_key",
]
