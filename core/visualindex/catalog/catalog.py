"""The catalog as its callers hold it: one object over one small pool."""

from typing import Self

from visualindex.catalog.building import Building
from visualindex.catalog.changes import ChangeFollower
from visualindex.catalog.checks import Checks
from visualindex.catalog.connections import Connections
from visualindex.catalog.erasures import Erasures
from visualindex.catalog.expectations import Expectations
from visualindex.catalog.facts import Facts
from visualindex.catalog.generations import Generations
from visualindex.catalog.idempotency import IdempotencyKeys
from visualindex.catalog.images import Images
from visualindex.catalog.index_encoders import IndexEncoders
from visualindex.catalog.index_erasure import IndexErasure
from visualindex.catalog.indexes import Indexes
from visualindex.catalog.jobs import Jobs
from visualindex.catalog.keys import Keys
from visualindex.catalog.managed_keys import ManagedKeys
from visualindex.catalog.migrate import check_connection, stamp_if_restored
from visualindex.catalog.origins import Origins
from visualindex.catalog.patches import Patches
from visualindex.catalog.reindexing import Reindexing
from visualindex.catalog.schedules import Schedules
from visualindex.catalog.search_logs import SearchLogs
from visualindex.catalog.shadows import Shadows
from visualindex.catalog.twins import Twins


class Catalog(
    Indexes,
    IndexEncoders,
    IndexErasure,
    Images,
    Origins,
    Twins,
    Patches,
    Erasures,
    Building,
    Generations,
    Expectations,
    Shadows,
    Jobs,
    Checks,
    Schedules,
    Reindexing,
    Keys,
    ManagedKeys,
    SearchLogs,
    IdempotencyKeys,
    Facts,
):
    """Everything in Postgres. Every method may raise ProblemError UNAVAILABLE, DEADLINE_EXCEEDED or STORAGE_FULL."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        max_connections: int = 4,
        application_name: str = "visualindex",
        timeout_s: float = 20.0,
    ) -> Self:
        """Connects, checks the schema's revision and stamps a restored database. `timeout_s` bounds every call."""
        connections = await Connections.open(
            dsn, max_connections=max_connections, application_name=application_name, timeout_s=timeout_s
        )
        try:
            await connections.read(check_connection)
            await stamp_if_restored(connections)
        except BaseException:
            await connections.close()
            raise
        return cls(connections)

    async def close(self) -> None:
        """Closes every connection."""
        await self.connections.close()

    def follow(
        self, index: str, fingerprint: str, buckets: range, *, region: int = 0, dimension: int | None = None
    ) -> ChangeFollower:
        """A reader of the changes of `buckets`; it shares this catalog's pool. See `ChangeFollower`."""
        of = index, fingerprint, buckets
        return ChangeFollower(self.connections, *of, region=region, dimension=dimension)
