"""Where originals, thumbnails and generations live: one facade over a local folder and an S3 bucket."""

from visualindex.objectstore.base import ObjectStat, ObjectStore
from visualindex.objectstore.erasing import erase_prefix
from visualindex.objectstore.layout import (
    done_key,
    done_prefix,
    index_prefix,
    job_prefix,
    jobs_prefix,
    manifest_key,
    manifest_prefix,
    original_key,
    part_key,
    part_prefix,
    pending_key,
    pending_prefix,
    plan_key,
    thumbnail_key,
    thumbnail_keys,
    todo_key,
)
from visualindex.objectstore.local import LocalObjectStore
from visualindex.objectstore.opening import open_store

__all__ = [
    "LocalObjectStore",
    "ObjectStat",
    "ObjectStore",
    "done_key",
    "done_prefix",
    "erase_prefix",
    "index_prefix",
    "job_prefix",
    "jobs_prefix",
    "manifest_key",
    "manifest_prefix",
    "open_store",
    "original_key",
    "part_key",
    "part_prefix",
    "pending_key",
    "pending_prefix",
    "plan_key",
    "thumbnail_key",
    "thumbnail_keys",
    "todo_key",
]
