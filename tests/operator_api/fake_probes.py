"""A fake of what the operator asks beside the API server: a database with three images, a store, gateways."""

from dataclasses import dataclass, field

import httpx

from visualindex.catalog.inspection import Inspection
from visualindex.credentials import Credentials
from visualindex.spec.models import StorageSpec


@dataclass
class FakeProbes:
    """`Probes` without a network. `addresses` are the hosts behind which gateways answer; None: behind all."""

    addresses: set[str] | None = None
    images: int = 3
    asked: list[str] = field(default_factory=list)

    async def database(self, dsn: str, index: str) -> Inspection | str:
        """A DSN with the word `down` leads to no database."""
        return f"{index}: connection refused" if "down" in dsn else Inspection("f1", 1280, self.images)

    async def store(self, storage: StorageSpec, credentials: Credentials) -> str | None:
        return None

    async def answers(self, url: str) -> str | None:
        self.asked.append(url)
        if self.addresses is None or httpx.URL(url).host in self.addresses:
            return None
        return f"{url} cannot be reached"

    async def close(self) -> None:
        """Nothing is open."""
