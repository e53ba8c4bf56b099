"""Where originals, thumbnails and generations live: one facade over a local folder and an S3 bucket."""

from visualindex.objectstore.base import ObjectStat, ObjectStore
from visualindex.objectstore.erasing import erase_prefix
from visualindex.objectstore.layout import (
    index_prefix,
    job_prefix,
    manifest_key,
    manifest_prefix,
    original_key,
    part_key,
    part_prefix,
    pending_key,
    pending_prefix,
    thumbnail_key,
    thumbnail_keys,
)
from visualindex.objectstore.local import LocalObjectStore
from visualindex.objectstore.opening import open_store

__all__ = [
    "LocalObjectStore",
    "ObjectStat",
    "ObjectStore",
    "erase_prefix",
    "index_prefix",
    "job_prefix",
    "manifest_key",
    "manifest_prefix",
    "open_store",
    "original_key",
    "part_key",
    "part_prefix",
    "pending_key",
    "pending_prefix",
    "thumbnail_key",
    "thumbnail_keys",
]
