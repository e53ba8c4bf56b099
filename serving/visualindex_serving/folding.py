"""When the rows that came since a generation was built are folded into a new one."""

from collections.abc import Sequence

from visualindex.catalog import Catalog, ReplicaLoad
from visualindex.spec import VisualIndex
from visualindex_serving.background_jobs import BUILD

_SHARE = 0.2
"""Fresh rows, of all, that are worth a new generation."""


def due(resource: VisualIndex, loads: Sequence[ReplicaLoad]) -> bool:
    """Whether the shards hold enough fresh rows: more than are scanned anyway, and a share of all worth the work."""
    index = resource.spec.index
    fresh = {one.shard: max(o.fresh for o in loads if o.shard == one.shard) for one in loads}
    rows = {one.shard: max(o.rows for o in loads if o.shard == one.shard) for one in loads}
    return any(count > index.flat_below and count > _SHARE * rows[shard] for shard, count in fresh.items())


async def fold_if_due(catalog: Catalog, resource: VisualIndex) -> None:
    """Ask for a new generation that takes the fresh rows in, unless the spec leaves that to others."""
    if resource.spec.index.fold != "auto" or resource.spec.generation is not None:
        return
    shards = resource.spec.index.shards
    loads = [one for one in await catalog.replica_loads(resource.name) if one.shards == shards]
    if due(resource, loads):
        await catalog.request_job(resource.name, BUILD, {"activate": True, "reason": "fresh rows"})
