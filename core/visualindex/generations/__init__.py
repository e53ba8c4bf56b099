"""Generations: immutable, content-addressed snapshots of an index, published to the object store and cached on nodes."""

from visualindex.generations.cache import NodeCache
from visualindex.generations.leases import Lease
from visualindex.generations.manifest import FORMAT, PART_BYTES, FileEntry, Manifest, ShardFiles
from visualindex.generations.publishing import (
    complete,
    hold,
    let_go,
    list_generations,
    publish,
    publish_shard,
    read_manifest,
)
from visualindex.generations.retiring import published_long_ago, retire

__all__ = [
    "FORMAT",
    "PART_BYTES",
    "FileEntry",
    "Lease",
    "Manifest",
    "NodeCache",
    "ShardFiles",
    "complete",
    "hold",
    "let_go",
    "list_generations",
    "publish",
    "publish_shard",
    "published_long_ago",
    "read_manifest",
    "retire",
]
