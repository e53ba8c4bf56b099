"""What the service has acknowledged, and whether it still holds all of it."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

_CHECKS_AT_ONCE = 4
_CHECK_S = 30.0
_WEBP = (b"RIFF", b"WEBP")


@dataclass(frozen=True)
class Written:
    """The state of an image after a write: its content's digest and the revision in its metadata."""

    digest: str
    revision: int


@dataclass
class Entry:
    """The states an image may be in (None: erased). More than one when a later write was not acknowledged."""

    possible: list[Written | None]
    token: str = ""
    busy: bool = False
    seen_whole: bool = False

    @property
    def certain(self) -> bool:
        """Whether the last write was acknowledged, so that only one state is right."""
        return len(self.possible) == 1


@dataclass
class Ledger:
    """Every image the load wrote. An image whose last write was not acknowledged is not written again."""

    entries: dict[uuid.UUID, Entry] = field(default_factory=dict)
    acknowledged: int = 0

    def borrow(self, chance: random.Random) -> uuid.UUID | None:
        """An image that may be written again, None while there is none."""
        free = [image_id for image_id, entry in self.entries.items() if entry.certain and not entry.busy]
        return chance.choice(free) if free else None

    def state(self, image_id: uuid.UUID) -> Written | None:
        """The acknowledged state of an image."""
        return self.entries[image_id].possible[0]

    @contextmanager
    def writing(self, image_id: uuid.UUID, wanted: Written | None) -> Iterator[Callable[[str], None]]:
        """A write under way; until it is acknowledged with its token, the image may be in the old or the new state."""
        entry = self.entries.setdefault(image_id, Entry([None]))
        entry.busy, entry.seen_whole = True, False
        entry.possible = [*entry.possible, wanted]

        def acknowledge(token: str) -> None:
            entry.possible, entry.token = [wanted], token
            self.acknowledged += 1

        try:
            yield acknowledge
        finally:
            entry.busy = False


@dataclass
class Verdict:
    """What a check of the ledger found: each list holds one line per fault."""

    checked: int = 0
    lost: list[str] = field(default_factory=list)
    half_there: list[str] = field(default_factory=list)


async def verify(
    url: str, ledger: Ledger, *, thorough: bool = True, headers: dict[str, str] | None = None
) -> Verdict:
    """Look at every image of the ledger: its record, its bytes, its thumbnails, and a search with its token.

    Unless `thorough`, only the record where an image was found whole since its last write. An image that is listed must
    be whole, whether its write was acknowledged or not. Raises httpx.HTTPError when the service does not answer.
    """
    verdict = Verdict()
    gate = asyncio.Semaphore(_CHECKS_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_CHECK_S, trust_env=False) as client:

        async def check(image_id: uuid.UUID, entry: Entry) -> None:
            async with gate:
                await _check(client, image_id, entry, verdict, brief=entry.seen_whole and not thorough)

        await asyncio.gather(*(check(image_id, entry) for image_id, entry in ledger.entries.items()))
    return verdict


async def _check(
    client: httpx.AsyncClient, image_id: uuid.UUID, entry: Entry, verdict: Verdict, *, brief: bool
) -> None:
    verdict.checked += 1
    response = await client.get(f"/api/images/{image_id}")
    if response.status_code not in (200, 404):
        response.raise_for_status()
    found = response.json() if response.status_code == 200 else None
    state = None if found is None else Written(found["content_digest"], found["metadata"]["revision"])
    lost = [] if state in entry.possible else [f"{image_id}: is {state}, may be {entry.possible}"]
    half_there = await _missing_parts(client, image_id, found) if found and not brief else []
    if entry.certain and entry.token and not brief:
        lost += await _unsearchable(client, image_id, entry)
    entry.seen_whole = not lost and not half_there
    verdict.lost += lost
    verdict.half_there += half_there


async def _missing_parts(
    client: httpx.AsyncClient, image_id: uuid.UUID, found: dict[str, object]
) -> list[str]:
    content = await client.get(f"/api/images/{image_id}/content")
    thumbnails = found["thumbnails"]
    assert isinstance(thumbnails, dict)
    missing = []
    if hashlib.sha256(content.content).hexdigest() != found["content_digest"]:
        missing.append(f"{image_id}: its content is not there ({content.status_code})")
    for size, path in thumbnails.items():
        data = (await client.get(path)).content
        if (data[:4], data[8:12]) != _WEBP:
            missing.append(f"{image_id}: its thumbnail of {size} pixels is not there")
    return missing


async def _unsearchable(client: httpx.AsyncClient, image_id: uuid.UUID, entry: Entry) -> list[str]:
    """Whether a search with the image's token finds it, or no longer finds it after its erasure."""
    query = {"query": {"image_id": str(image_id)}, "include_self": True, "limit": 200, "token": entry.token}
    response = await client.post("/api/search", json=query)
    if entry.possible == [None]:
        return [] if response.status_code == 404 else [f"{image_id}: was erased, a search by it still works"]
    if response.status_code != 200:
        return [f"{image_id}: a search with its token answers {response.status_code} {response.text[:200]}"]
    hits = {hit["image_id"] for hit in response.json()["hits"]}
    return [] if str(image_id) in hits else [f"{image_id}: a search with its token does not find it"]
