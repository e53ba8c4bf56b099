"""A fake of what the operator asks beside the API server: a database with images and generations, a store, gateways."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from visualindex.catalog.inspection import GenerationInspected, Inspection
from visualindex.credentials import Credentials
from visualindex.spec.models import StorageSpec

GENERATIONS = (
    GenerationInspected("b" * 16, "failed", {}, datetime(2026, 3, 2, tzinfo=UTC), "shard 0: no room"),
    GenerationInspected(
        "a" * 16, "active", {"recall": 0.9621, "target": 0.95, "met": True}, datetime(2026, 3, 1, tzinfo=UTC)
    ),
)


@dataclass
class FakeProbes:
    """`Probes` without a network. `addresses` are the hosts behind which gateways answer; None: behind all."""

    addresses: set[str] | None = None
    images: int = 3
    asked: list[str] = field(default_factory=list)

    async def database(self, dsn: str, index: str) -> Inspection | str:
        """A DSN with the word `down` leads to no database."""
        if "down" in dsn:
            return f"{index}: connection refused"
        return Inspection("f1", 1280, self.images, GENERATIONS)

    async def store(self, storage: StorageSpec, credentials: Credentials) -> str | None:
        return None

    async def answers(self, url: str) -> str | None:
        self.asked.append(url)
        if self.addresses is None or httpx.URL(url).host in self.addresses:
            return None
        return f"{url} cannot be reached"

    async def close(self) -> None:
        """Nothing is open."""
