"""When what was written and deleted since a generation was built is folded into a new one."""

import datetime as dt
import logging
from collections.abc import Sequence

from visualindex.catalog import BUILD, Catalog, GenerationRecord, JobRecord, ReplicaLoad
from visualindex.spec import VisualIndex

logger = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE = dt.timedelta(minutes=10)
_LONGEST_PAUSE = dt.timedelta(hours=12)
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
    """Ask for a new generation that takes in what was written since, unless the spec leaves that to others.

    After a rollback it is left to people, too: the one that they left would be built again.
    """
    if resource.spec.index.fold != "auto" or resource.spec.generation is not None:
        return
    shards = resource.spec.index.shards
    loads = [one for one in await catalog.replica_loads(resource.name) if one.shards == shards]
    reason = await _reason(catalog, resource, loads)
    if reason is None or await catalog.rolled_back_at(resource.name) is not None:
        return
    generations = await catalog.list_generations(resource.name)
    if any(left_to_people(resource, record) for record in generations[:1]):
        return
    vain = in_vain(await catalog.list_jobs(resource.name), generations)
    if not vain or _since(vain[-1]) >= pause(len(vain)):
        await _give_up_failed(catalog, resource.name, generations)
        wanted = {"activate": True, "reason": reason}
        # People who build one without activation want to look at it first.
        await catalog.request_job(resource.name, BUILD, wanted, joins=False)


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
    """Whether somebody has to look at the newest generation first; one that could not be judged tells nobody anything.

    One that shards could not load is no matter for people: the next one may well find the object store there again.
    """
    if newest.state == "ready":
        return newest.gate is not None or resource.spec.reindex.gate.mode == "off"
    return newest.state == "preparing" or (newest.state == "failed" and newest.refused)


def pause(attempts: int) -> dt.timedelta:
    """How long to wait after so many attempts in a row that led to nothing: each costs as much as one that does."""
    doubled: dt.timedelta = _PAUSE_AFTER_FAILURE * 2 ** min(attempts - 1, 10)
    return min(doubled, _LONGEST_PAUSE)


def in_vain(jobs: Sequence[JobRecord], generations: Sequence[GenerationRecord]) -> list[dt.datetime]:
    """When the attempts ended, the last one last, that led to nothing since the active generation was activated."""
    activated = max((one.activated_at for one in generations if one.activated_at is not None), default=None)
    builds = [
        job for job in jobs if job.kind == BUILD and (activated is None or job.requested_at > activated)
    ]
    unloaded = [one.created_at for one in generations[:1] if one.state == "failed"]
    if not unloaded and not (builds and builds[0].state == "failed"):
        return []
    ended = sorted(job.ended_at for job in builds if job.ended_at is not None)
    return ended or unloaded  # what was built by hand has no job


async def _give_up_failed(catalog: Catalog, index: str, generations: Sequence[GenerationRecord]) -> None:
    """Let go of the files of what could not be loaded: else each attempt would leave a generation in the object store.

    One of another encoder, which the index moves to, is not replaced by what is built here.
    """
    served = {one.fingerprint for one in generations if one.state == "active"}
    for record in generations:
        if record.state == "failed" and (not served or record.fingerprint in served):
            logger.info(
                "index %s: a new generation is built in place of %s, which could not be loaded (%s)",
                *(index, record.generation, record.problem),
            )
            await catalog.discard_generation(index, record.generation)


def _since(moment: dt.datetime) -> dt.timedelta:
    return dt.datetime.now(dt.UTC) - moment
