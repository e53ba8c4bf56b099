"""Where rebuilds with a place of their own run: what was begun of them, beginning one, and ending one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from visualindex.credentials import Credentials
from visualindex.planning.observations import ReindexRun
from visualindex.planning.reindexing import BeginReindex
from visualindex.spec import Spec
from visualindex_operator import names
from visualindex_operator.live import Live, Object


class RunRefused(Exception):  # noqa: N818 (as ClusterRefused)
    """A cluster of others does not do what it was asked for a run; the message says why and what helps."""


class ReindexRuns(Protocol):
    """RayJobs, or jobs submitted to a cluster of others. A repeat of anything is harmless."""

    async def of(self, namespace: str, index: str, spec: Spec, live: Live) -> Sequence[ReindexRun]:
        """The runs of an index's rebuilds. Raises KubeError, and RunRefused where that is not told."""

    async def begin(
        self,
        namespace: str,
        cluster: str,
        action: BeginReindex,
        body: Object,
        credentials: Credentials | None,
    ) -> list[str]:
        """Begin a run; returns what was written, a line each. Raises KubeError and RunRefused."""

    async def end(self, namespace: str, index: str, spec: Spec, run: ReindexRun) -> list[str]:
        """End a run, or forget one that has ended. Raises KubeError and RunRefused."""


def count(found: Mapping[str, object], key: str) -> int:
    """A number among a run's annotations; 0 where somebody made it unreadable."""
    text = str(found.get(key, ""))
    return int(text) if text.isdecimal() else 0


def of_job(found: Mapping[str, object]) -> str:
    """The job among a run's annotations."""
    return str(found.get(names.JOB, ""))


def moment(text: str | None) -> datetime | None:
    """A time of the API server."""
    try:
        return None if not text else datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
