"""Everything a gateway needs to serve one index, wired once at start."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from visualindex.catalog import Catalog
from visualindex.catalog.generations import Searchable
from visualindex.fetching import SafeFetcher
from visualindex.ingesting.places import Places
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex
from visualindex_serving.active_generations import ActiveGenerations
from visualindex_serving.encoder_in_use import EncoderInUse
from visualindex_serving.fanout import Fanout
from visualindex_serving.held_encoders import HeldEncoders
from visualindex_serving.records import Records
from visualindex_serving.reranking import Reranking
from visualindex_serving.shadowing import Shadowing
from visualindex_serving.thumbnail_making import Thumbnails
from visualindex_serving.vision import Vision


@dataclass(frozen=True)
class IndexService:
    """The parts that serve one index. What depends on its vectors is that of the encoder it is searched with now, or, in
    one that was `pinned`, with which it was then."""

    resource: VisualIndex
    open_access: bool
    catalog: Catalog
    generations: ActiveGenerations
    encoders: HeldEncoders
    store: ObjectStore
    fetcher: SafeFetcher
    records: Records
    thumbnails: Thumbnails
    shards: Fanout
    places: Places
    shadowing: Shadowing | None = None
    tell_news: Callable[[], None] = lambda: None
    """Called after a write: the shards look into the change log at once instead of at their next poll."""
    pin: Searchable | None = None

    @property
    def name(self) -> str:
        """The index name."""
        return self.resource.name

    def pinned(self, fingerprint: str | None = None) -> "IndexService":
        """This index as it is searched now, whatever becomes active meanwhile: one generation and its encoder.

        With `fingerprint` by the latest generation of that encoder's vectors, where one is still loaded.
        """
        return replace(self, pin=self.generations.of(self.name, fingerprint))

    @property
    def searched(self) -> Searchable:
        """The generation that searches see, and the space of its vectors."""
        return self.pin or self.generations.of(self.name)

    @property
    def fingerprint(self) -> str:
        """Of the encoder that searches use."""
        return self.searched.fingerprint

    @property
    def dimension(self) -> int:
        """Of its vectors."""
        return self.searched.dimension

    @property
    def encoder(self) -> EncoderInUse:
        """It. Raises ProblemError UNAVAILABLE where this gateway has not loaded it yet."""
        return self.encoders.of(self.fingerprint)

    @property
    def vision(self) -> Vision:
        """Makes its vectors."""
        return self.encoder.vision

    @property
    def reranking(self) -> Reranking:
        """Compares its patches."""
        return self.encoder.reranking
