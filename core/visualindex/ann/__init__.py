"""Approximate nearest neighbours: what one shard replica holds in memory and how answers are merged."""

from visualindex.ann.changes import Applied, Deletes, Upserts
from visualindex.ann.hits import Hits, merge_hits
from visualindex.ann.shard import ShardIndex

__all__ = ["Applied", "Deletes", "Hits", "ShardIndex", "Upserts", "merge_hits"]
