"""Where originals, thumbnails and generations live: one facade over a local folder and an S3 bucket."""

from visualindex.objectstore.base import ObjectStat, ObjectStore
from visualindex.objectstore.layout import all_keys, original_key, thumbnail_key
from visualindex.objectstore.local import LocalObjectStore
from visualindex.objectstore.opening import open_store
from visualindex.objectstore.s3 import S3ObjectStore

__all__ = [
    "LocalObjectStore",
    "ObjectStat",
    "ObjectStore",
    "S3ObjectStore",
    "all_keys",
    "open_store",
    "original_key",
    "thumbnail_key",
]
