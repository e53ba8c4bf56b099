"""The kinds of jobs, each with what carries it out."""

from collections.abc import Awaitable, Callable

from visualindex.catalog import BUILD, REINDEX, JobRecord
from visualindex.spec import VisualIndex
from visualindex_jobs import build, reindex
from visualindex_jobs.build_places import Place

RunKind = Callable[[VisualIndex, JobRecord, str | None, Place], Awaitable[None]]


KINDS: dict[str, RunKind] = {BUILD: build.run, REINDEX: reindex.run}
"""Carries a claimed job out, with the fingerprint of the patches that the index keeps, if it keeps any."""
