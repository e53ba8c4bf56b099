"""A fake of what the operator asks beside the API server: a database with images and generations, a store, gateways."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from visualindex.catalog.inspection import GenerationInspected, Inspection
from visualindex.catalog.reindex_inspection import ReindexInspected
from visualindex.credentials import Credentials
from visualindex.spec.models import StorageSpec

GENERATIONS = (
    GenerationInspected("b" * 16, "failed", {}, datetime(2026, 3, 2, tzinfo=UTC), "shard 0: no room"),
    GenerationInspected(
        "a" * 16, "active", {"recall": 0.9621, "target": 0.95, "met": True}, datetime(2026, 3, 1, tzinfo=UTC)
    ),
)

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)
JOB = UUID("7e2f0000-0000-4000-8000-000000000000")


def rebuild(**otherwise: Any) -> ReindexInspected:
    """A rebuild that waits for a place of its own, but for what is said otherwise."""
    none = dict.fromkeys(("lease_until", "started_at", "ended_at"))
    counts = dict.fromkeys(("done", "total", "chunks"), 0)
    found = ReindexInspected(
        JOB,
        "queued",
        apart=True,
        phase="",
        held=False,
        requested_at=BEGINNING,
        problem="",
        result={},
        **none,
        **counts,
    )
    return replace(found, **otherwise)


@dataclass
class FakeProbes:
    """`Probes` without a network. `addresses` are the hosts behind which gateways answer; None: behind all."""

    addresses: set[str] | None = None
    images: int = 3
    asked: list[str] = field(default_factory=list)
    reindex: ReindexInspected | None = None
    """The rebuild that is under way, of whichever index."""
    reindexed: ReindexInspected | None = None
    asked_for: list[str] = field(default_factory=list)
    """Indexes of which a rebuild was asked for."""
    refuses: str | None = None
    """What the service says when it is asked for one."""

    async def database(self, dsn: str, index: str) -> Inspection | str:
        """A DSN with the word `down` leads to no database."""
        if "down" in dsn:
            return f"{index}: connection refused"
        return Inspection(
            "f1", 1280, self.images, GENERATIONS, reindex=self.reindex, reindexed=self.reindexed
        )

    async def fail_job(self, dsn: str, job: str, problem: str) -> str | None:
        assert self.reindex is not None
        assert str(self.reindex.job_id) == job
        self.reindexed = replace(self.reindex, state="failed", problem=problem, ended_at=BEGINNING)
        self.reindex = None
        return None

    async def ask_reindex(self, url: str, index: str, key: str) -> str | None:
        if self.refuses is not None:
            return self.refuses
        self.asked_for.append(index)
        self.reindex = self.reindex or rebuild()
        return None

    async def store(self, storage: StorageSpec, credentials: Credentials) -> str | None:
        return None

    async def answers(self, url: str) -> str | None:
        self.asked.append(url)
        if self.addresses is None or httpx.URL(url).host in self.addresses:
            return None
        return f"{url} cannot be reached"

    async def close(self) -> None:
        """Nothing is open."""
