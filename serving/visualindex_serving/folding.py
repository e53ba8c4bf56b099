"""When the rows that came since a generation was built are folded into a new one."""

import datetime as dt
from collections.abc import Sequence

from visualindex.catalog import BUILD, Catalog, GenerationRecord, ReplicaLoad
from visualindex.spec import VisualIndex

_PAUSE_AFTER_FAILURE = dt.timedelta(minutes=10)
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
    if due(resource, loads) and not await _waits_for_people(catalog, resource):
        await catalog.request_job(resource.name, BUILD, {"activate": True, "reason": "fresh rows"})


def left_to_people(resource: VisualIndex, newest: GenerationRecord) -> bool:
    """Whether somebody has to look at the newest generation first; one that could not be judged tells nobody anything."""
    if newest.state == "ready":
        return newest.gate is not None or resource.spec.reindex.gate.mode == "off"
    return newest.state in ("preparing", "failed")


async def _waits_for_people(catalog: Catalog, resource: VisualIndex) -> bool:
    """Whether the last attempt led to nothing: another one would most likely not either, at the same cost."""
    newest = (await catalog.list_generations(resource.name))[:1]
    if any(left_to_people(resource, record) for record in newest):
        return True
    last = [job for job in await catalog.list_jobs(resource.name, limit=10) if job.kind == BUILD][:1]
    return any(job.state == "failed" and _since(job.ended_at) < _PAUSE_AFTER_FAILURE for job in last)


def _since(moment: dt.datetime | None) -> dt.timedelta:
    return dt.timedelta.max if moment is None else dt.datetime.now(dt.UTC) - moment
