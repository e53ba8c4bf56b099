"""The Serve deployment of a reranker. A module of its own: no other process needs what it imports."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visualindex.catalog import Catalog
from visualindex.encoders.checkpoint import local_file
from visualindex.footprint import CONNECTIONS_PER_RERANKER, generation_cache
from visualindex.generations import NodeCache
from visualindex.objectstore import ObjectStore, open_store
from visualindex.rerank.cross_scorer import CrossScorer, load_cross_scorer
from visualindex.rerank.geometry import Pixels
from visualindex.rerank.patches import WIDTH
from visualindex.spec import VisualIndex
from visualindex_serving.config import Runtime, read_specs
from visualindex_serving.generation_patches import GenerationPatches
from visualindex_serving.patience import once_there
from visualindex_serving.rerank_messages import RerankAnswer, RerankQuery
from visualindex_serving.rerank_source import Folded, Segments, SideTable
from visualindex_serving.reranker import Reranker


class RerankReplica:
    """Serve's view of a reranker."""

    def __init__(self, document: dict[str, Any]) -> None:
        (self._resource,) = read_specs([document])
        self._starting = asyncio.Lock()
        self._catalog: Catalog | None = None
        self._reranker: Reranker | None = None
        self._store: ObjectStore | None = None
        self._generations: GenerationPatches | None = None

    async def check_health(self) -> None:
        """The first call opens the database and loads the user's scorer."""
        await self._opened()

    async def rerank(self, query: RerankQuery) -> RerankAnswer:
        """Reorder the candidates of one search."""
        return await (self._reranker or await self._opened()).rerank(query)

    async def verify(self, query: bytes, candidates: list[bytes | None], deadline: float) -> list[int]:
        """Agreeing features of two thumbnails, query and each candidate: WebP as this service made it, or None."""
        reranker = self._reranker or await self._opened()
        return await verified(reranker, query, candidates, deadline)

    async def _opened(self) -> Reranker:
        async with self._starting:
            if self._reranker is None:
                cv2.setNumThreads(1)
                runtime = await Runtime.from_env()
                opening = partial(
                    Catalog.open,
                    runtime.credentials.dsn,
                    max_connections=CONNECTIONS_PER_RERANKER,
                    application_name="visualindex-reranker",
                )
                self._catalog = await once_there("the database", opening)
                scorer = await asyncio.to_thread(open_scorer, self._resource, runtime)
                self._generations = self._followed(runtime, self._catalog)
                self._generations.start()
                self._reranker = make_reranker(
                    self._resource, self._catalog, scorer, self._generations.segments
                )
            return self._reranker

    def _followed(self, runtime: Runtime, catalog: Catalog) -> GenerationPatches:
        spec = self._resource.spec
        self._store = open_store(
            spec.storage, default_folder=runtime.state_dir / "objects", credentials=runtime.credentials
        )
        cache = NodeCache(runtime.cache_dir / "generations", generation_cache(spec))
        return GenerationPatches(catalog, self._store, cache, self._resource.name)

    async def __del__(self) -> None:
        """When Serve stops the replica in good order."""
        if self._reranker is not None:
            self._reranker.close()
        if self._generations is not None:
            await self._generations.close()
        if self._store is not None:
            await self._store.close()
        if self._catalog is not None:
            await self._catalog.close()


def make_reranker(
    resource: VisualIndex, catalog: Catalog, scorer: CrossScorer | None, segments: Segments
) -> Reranker:
    """A reranker that reads the patches in `segments`, and those that are newer in the side table of an index."""
    spec = resource.spec.rerank
    source = Folded(segments, SideTable(partial(_read, catalog, resource.name), spec.memory))
    weight = spec.cross_scorer.weight if spec.cross_scorer is not None else 0.0
    return Reranker(source, scorer, scorer_weight=weight)


async def _read(catalog: Catalog, index: str, images: Any, features: str) -> Any:
    return await catalog.get_patches(index, images, features)


def open_scorer(resource: VisualIndex, runtime: Runtime) -> CrossScorer | None:
    """The user's own scorer, if the spec names one. Blocks; raises ProblemError and EncoderConfigError."""
    wanted = resource.spec.rerank.cross_scorer
    if wanted is None:
        return None
    from visualindex.objectstore.download import (
        download,  # the client of buckets is slow to import and rarely needed
    )

    fetch = partial(download, s3=resource.spec.storage.s3, credentials=runtime.credentials)
    what = "rerank.crossScorer.checkpoint"
    checkpoint: Path = local_file(wanted.checkpoint, cache_dir=runtime.cache_dir, fetch=fetch, what=what)
    return load_cross_scorer(checkpoint, wanted.module, width=WIDTH)


async def verified(
    reranker: Reranker, query: bytes, candidates: list[bytes | None], deadline: float
) -> list[int]:
    """`Reranker.verify` on thumbnails."""
    pictures = await asyncio.to_thread(lambda: [_picture(data) for data in (query, *candidates)])
    if pictures[0] is None:
        return [0] * len(candidates)
    return await reranker.verify(pictures[0], pictures[1:], deadline)


def _picture(data: bytes | None) -> Pixels | None:
    if data is None:
        return None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if decoded is None else np.asarray(decoded, np.uint8)
