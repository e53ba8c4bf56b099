"""The kinds of jobs, each with what carries it out."""

from collections.abc import Awaitable, Callable

from visualindex.catalog import BUILD, REINDEX, JobRecord
from visualindex.spec import VisualIndex
from visualindex_jobs import build, reindex
from visualindex_jobs.reindex import Place

RunKind = Callable[[VisualIndex, JobRecord, str | None, Place], Awaitable[None]]


async def _build(resource: VisualIndex, job: JobRecord, features: str | None, _: Place) -> None:
    await build.run(resource, job, features)


KINDS: dict[str, RunKind] = {BUILD: _build, REINDEX: reindex.run}
"""Carries a claimed job out, with the fingerprint of the patches that the index keeps, if it keeps any."""
