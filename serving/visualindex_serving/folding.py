"""When what was written and deleted since a generation was built is folded into a new one."""

import datetime as dt
from collections.abc import Sequence

from visualindex.catalog import BUILD, Catalog, GenerationRecord, ReplicaLoad
from visualindex.spec import VisualIndex

_PAUSE_AFTER_FAILURE = dt.timedelta(minutes=10)
_SHARE = 0.2
"""Fresh rows, of all, that are worth a new generation; and dead rows, of those built; and rows of the log, of all images."""
_SETTLED_AFTER = dt.timedelta(seconds=15)
"""By then every replica has told what it holds of a generation that was activated."""


def due(resource: VisualIndex, loads: Sequence[ReplicaLoad]) -> bool:
    """Whether the shards hold enough fresh rows: more than are scanned anyway, and a share of all worth the work."""
    index = resource.spec.index
    fresh = {one.shard: max(o.fresh for o in loads if o.shard == one.shard) for one in loads}
    rows = {one.shard: max(o.rows for o in loads if o.shard == one.shard) for one in loads}
    return any(count > index.flat_below and count > _SHARE * rows[shard] for shard, count in fresh.items())


def mostly_dead(resource: VisualIndex, loads: Sequence[ReplicaLoad], active: GenerationRecord) -> bool:
    """Whether as large a share of what was built was deleted or replaced since: it takes memory, and is looked through."""
    if not loads or any(one.seen_at < _settled(active) for one in loads):
        return False
    held = {one.shard: max(o.rows - o.fresh for o in loads if o.shard == one.shard) for one in loads}
    index, built = resource.spec.index, sum(shard["images"] for shard in active.manifest["shards"])
    dead = built - sum(held.values())
    return len(held) == index.shards and dead > index.flat_below * index.shards and dead > _SHARE * built


def _settled(active: GenerationRecord) -> dt.datetime:
    return (active.activated_at or active.created_at) + _SETTLED_AFTER


def log_worth_folding(resource: VisualIndex, loads: Sequence[ReplicaLoad]) -> int:
    """Rows of the log since a generation that are too many: a shard that starts reads them, and none of them can go."""
    images = sum({one.shard: one.rows for one in loads}.values())
    return max(resource.spec.index.flat_below * resource.spec.index.shards, int(_SHARE * images))


async def fold_if_due(catalog: Catalog, resource: VisualIndex) -> None:
    """Ask for a new generation that takes in what was written since, unless the spec leaves that to others."""
    if resource.spec.index.fold != "auto" or resource.spec.generation is not None:
        return
    shards = resource.spec.index.shards
    loads = [one for one in await catalog.replica_loads(resource.name) if one.shards == shards]
    reason = await _reason(catalog, resource, loads)
    if reason is not None and not await _waits_for_people(catalog, resource):
        await catalog.request_job(resource.name, BUILD, {"activate": True, "reason": reason})


async def _reason(catalog: Catalog, resource: VisualIndex, loads: Sequence[ReplicaLoad]) -> str | None:
    if due(resource, loads):
        return "fresh rows"
    active = [one for one in await catalog.loaded_generations(resource.name) if one.state == "active"]
    if any(mostly_dead(resource, loads, one) for one in active):
        return "dead rows"
    if active and loads and await catalog.log_exceeds(resource.name, log_worth_folding(resource, loads)):
        return "length of the change log"
    return None


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
