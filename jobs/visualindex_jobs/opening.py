"""What every job works with, opened as its process's environment says."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from visualindex import credentials
from visualindex.building import Kept
from visualindex.catalog import Catalog
from visualindex.footprint import generation_cache
from visualindex.generations import NodeCache
from visualindex.objectstore import ObjectStore, open_store
from visualindex.spec import VisualIndex


@dataclass(frozen=True)
class Opened:
    """The service's database and object store, and where this node keeps what it can fetch again."""

    catalog: Catalog
    store: ObjectStore
    access: credentials.Credentials
    cache_dir: Path
    generations: NodeCache

    def kept(self, features: str | None) -> Kept | None:
        """The patches that an index keeps; None without `features`, their fingerprint."""
        return None if features is None else Kept(features, self.generations)

    def scratch(self, job_id: object) -> Path:
        """A folder for what only this job needs."""
        return self.cache_dir / "building" / str(job_id)


def state_dir() -> Path:
    """Where this node keeps what belongs to the service."""
    return Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex"))


@asynccontextmanager
async def opened(resource: VisualIndex, name: str, *, connections: int = 2) -> AsyncIterator[Opened]:
    """Open for the job `name`, and close at the end. Raises ProblemError UNAVAILABLE without a database."""
    access = await credentials.from_environment()
    state = state_dir()
    cache_dir = state / "cache"
    async with AsyncExitStack() as stack:
        application = f"visualindex-{name}"
        catalog = await Catalog.open(access.dsn, max_connections=connections, application_name=application)
        stack.push_async_callback(catalog.close)
        store = open_store(resource.spec.storage, default_folder=state / "objects", credentials=access)
        stack.push_async_callback(store.close)
        generations = NodeCache(cache_dir / "generations", generation_cache(resource.spec))
        yield Opened(catalog, store, access, cache_dir, generations)
