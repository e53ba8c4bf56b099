"""Approximate nearest neighbours: what one shard replica holds in memory and how answers are merged."""

from visualindex.ann.asking import Ask, Grouping, Looked, Sorting
from visualindex.ann.base import Base
from visualindex.ann.changes import Applied, Deletes, Upserts
from visualindex.ann.codes import decode
from visualindex.ann.hits import Hits, merge_hits
from visualindex.ann.holding import HeldRows
from visualindex.ann.segment import Segment, open_segment, write_segment
from visualindex.ann.shard import ShardIndex
from visualindex.ann.snapshot import Snapshot

__all__ = [
    "Applied",
    "Ask",
    "Base",
    "Deletes",
    "Grouping",
    "HeldRows",
    "Hits",
    "Looked",
    "Segment",
    "ShardIndex",
    "Snapshot",
    "Sorting",
    "Upserts",
    "decode",
    "merge_hits",
    "open_segment",
    "write_segment",
]
