"""When the rows that came since a generation was built are folded into a new one."""

import datetime as dt
import logging
from collections.abc import Sequence

from visualindex.catalog import BUILD, Catalog, GenerationRecord, JobRecord, ReplicaLoad
from visualindex.spec import VisualIndex

logger = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE = dt.timedelta(minutes=10)
_LONGEST_PAUSE = dt.timedelta(hours=12)
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
    if not due(resource, loads):
        return
    generations = await catalog.list_generations(resource.name)
    if any(left_to_people(resource, record) for record in generations[:1]):
        return
    vain = in_vain(await catalog.list_jobs(resource.name), generations)
    if not vain or _since(vain[-1]) >= pause(len(vain)):
        await _give_up_failed(catalog, resource.name, generations)
        await catalog.request_job(resource.name, BUILD, {"activate": True, "reason": "fresh rows"})


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
    """Let go of the files of what could not be loaded: else each attempt would leave a generation in the object store."""
    for record in generations:
        if record.state == "failed":
            logger.info(
                "index %s: a new generation is built in place of %s, which could not be loaded (%s)",
                *(index, record.generation, record.problem),
            )
            await catalog.discard_generation(index, record.generation)


def _since(moment: dt.datetime) -> dt.timedelta:
    return dt.datetime.now(dt.UTC) - moment
