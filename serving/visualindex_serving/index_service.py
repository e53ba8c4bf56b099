"""Everything a gateway needs to serve one index, wired once at start."""

from collections.abc import Callable
from dataclasses import dataclass

from visualindex.catalog import Catalog
from visualindex.fetching import SafeFetcher
from visualindex.ingesting.places import Places
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex
from visualindex_serving.active_generations import ActiveGenerations
from visualindex_serving.fanout import Fanout
from visualindex_serving.records import Records
from visualindex_serving.reranking import NO_RERANKING, Reranking
from visualindex_serving.shadowing import Shadowing
from visualindex_serving.thumbnail_making import Thumbnails
from visualindex_serving.vision import Vision


@dataclass(frozen=True)
class IndexService:
    """The parts that serve one index."""

    resource: VisualIndex
    fingerprint: str
    dimension: int
    open_access: bool
    catalog: Catalog
    generations: ActiveGenerations
    store: ObjectStore
    fetcher: SafeFetcher
    vision: Vision
    records: Records
    thumbnails: Thumbnails
    shards: Fanout
    places: Places
    reranking: Reranking = NO_RERANKING
    shadowing: Shadowing | None = None
    tell_news: Callable[[], None] = lambda: None
    """Called after a write: the shards look into the change log at once instead of at their next poll."""

    @property
    def name(self) -> str:
        """The index name."""
        return self.resource.name
