"""When reranking is measured on an index: before it was ever, for another encoder, and when the index has doubled."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from visualindex.catalog import RERANK_TRIAL, Catalog, JobRecord
from visualindex.spec import VisualIndex

LEAST_IMAGES = 60
"""Half of them judge, and fewer than 30 queries say nothing."""
_PAUSE = dt.timedelta(hours=1)
_GROWTH = 2


def due(profile: Mapping[str, Any] | None, features: str, images: int, last: Sequence[JobRecord]) -> bool:
    """Whether a measurement would tell something new, and the last one was not just now; `last` are the latest jobs."""
    if images < LEAST_IMAGES:
        return False
    if any(job.ended_at is None or dt.datetime.now(dt.UTC) - job.ended_at < _PAUSE for job in last):
        return False
    if profile is None or profile.get("features") != features:
        return True
    if profile.get("verdict", {}).get("queries", 0) < LEAST_IMAGES // 2:  # few of its images had patches
        return True
    return images >= _GROWTH * int(profile.get("images", 0))


async def measure_if_due(catalog: Catalog, resource: VisualIndex, features: str | None) -> None:
    """Ask for a measurement where the index keeps patches and one is due."""
    if features is None:
        return
    shards = resource.spec.index.shards
    loads = [one for one in await catalog.replica_loads(resource.name) if one.shards == shards]
    images = sum({one.shard: one.rows for one in loads}.values())
    profile = await catalog.rerank_profile(resource.name)
    last = [job for job in await catalog.list_jobs(resource.name) if job.kind == RERANK_TRIAL]
    if due(profile, features, images, last):
        await catalog.request_job(resource.name, RERANK_TRIAL, {})
