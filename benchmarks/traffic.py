"""Steady searches and writes by which a fault is judged: every answer is noted, every acknowledgement goes into a ledger.

Requests start on a schedule whatever became of the earlier ones, so that a silent service is asked as often as a healthy
one.
"""

import asyncio
import hashlib
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from benchmarks.ledger import Ledger, Written
from benchmarks.photographs import distinct, mosaic

Kind = Literal["search", "write"]
SEARCH_DEADLINE_S = 2.0
"""The index's own deadline of a search (limits.searchTimeoutMs)."""

WRITE_DEADLINE_S = 20.0
"""The index's own deadline of a write (limits.writeTimeoutMs)."""

_GRACE_S = 0.25
_LOOK_S = 0.2  # looking costs a pass over all processes
_CLIENT_S = {"search": 8.0, "write": 25.0}
_PICTURES = 64


@dataclass(frozen=True)
class Outcome:
    """One request: when it began and ended (monotonic seconds), and how.

    `result` is `ok`, `refused` (no connection), `broken` (connection lost before the answer), `timeout` (the client gave
    up) or the status code; `excused` says whether an error carried `Retry-After`.
    """

    kind: Kind
    began: float
    ended: float
    result: str
    excused: bool = False
    replica: str = ""

    @property
    def ok(self) -> bool:
        """Whether the service did what was asked."""
        return self.result == "ok"

    @property
    def late(self) -> bool:
        """Whether the answer took longer than the deadline and a quarter of a second for its way."""
        deadline = SEARCH_DEADLINE_S if self.kind == "search" else WRITE_DEADLINE_S
        return self.ended - self.began > deadline + _GRACE_S

    @property
    def failure(self) -> str:
        """How it failed, as the table counts it; empty when it did not."""
        if self.ok or not self.result.isdigit():
            return "" if self.ok else self.result
        return f"{self.result}{'' if self.excused or self.result < '500' else ' without Retry-After'}"


@dataclass
class Traffic:
    """Searches and writes against `url`, so many a second (none of a kind at 0); `outcomes` grows while it runs."""

    url: str
    ledger: Ledger
    seed: int
    searches_per_s: float = 10.0
    writes_per_s: float = 4.0
    headers: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    _running: set["asyncio.Task[None]"] = field(default_factory=set)
    _generators: list["asyncio.Task[None]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._pictures = [mosaic(self.seed * 1000 + n) for n in range(_PICTURES)]
        self._numbers = itertools.count(self.seed * 1_000_000)

    async def __aenter__(self) -> "Traffic":
        """Begin."""
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=16)
        self._client = httpx.AsyncClient(
            base_url=self.url, headers=self.headers, limits=limits, trust_env=False
        )
        sending = ((self.searches_per_s, self._search), (self.writes_per_s, self._write))
        self._generators = [
            asyncio.create_task(self._every(1 / rate, send)) for rate, send in sending if rate > 0
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send no more, and wait for what is under way: each request has its own limit."""
        for generator in self._generators:
            generator.cancel()
        await asyncio.gather(*self._generators, *self._running, return_exceptions=True)
        await self._client.aclose()

    async def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Keep going until the condition holds; False when it did not within the limit."""
        until = time.monotonic() + limit_s
        while not await asyncio.to_thread(condition):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    def since(self, moment: float) -> list[Outcome]:
        """The requests that ended after the moment."""
        return [o for o in self.outcomes if o.ended > moment]

    async def _every(self, period_s: float, send: Callable[[], Awaitable[None]]) -> None:
        due = time.monotonic()
        while True:
            task = asyncio.ensure_future(send())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            due = max(due + period_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _search(self) -> None:
        picture = distinct(self._random.choice(self._pictures), next(self._numbers))
        await self._send("search", "POST", "/api/search", **_form(picture, {"limit": "5", "explain": "true"}))

    async def _write(self) -> None:
        act = self._random.choices((self._insert, self._replace, self._patch, self._delete), (5, 2, 2, 1))[0]
        await act()

    def _picture(self) -> tuple[bytes, bytes]:
        data = distinct(self._random.choice(self._pictures), next(self._numbers))
        return data, hashlib.sha256(data).digest()

    async def _insert(self) -> None:
        image_id = uuid.UUID(int=self._random.getrandbits(128), version=4)
        await self._put(image_id, revision=0)

    async def _replace(self) -> None:
        image_id = self.ledger.borrow(self._random)
        await (self._insert() if image_id is None else self._put(image_id, self._revision(image_id)))

    def _revision(self, image_id: uuid.UUID) -> int:
        state = self.ledger.state(image_id)
        return 0 if state is None else state.revision + 1

    async def _put(self, image_id: uuid.UUID, revision: int) -> None:
        picture, digest = self._picture()
        fields = {"image_id": str(image_id), "metadata": f'{{"revision": {revision}}}'}
        wanted = Written(digest.hex(), revision)
        with self.ledger.writing(image_id, wanted) as acknowledge:
            answer = await self._send("write", "POST", "/api/images", **_form(picture, fields))
            if answer is not None:
                acknowledge(answer["token"])

    async def _patch(self) -> None:
        image_id = self.ledger.borrow(self._random)
        before = None if image_id is None else self.ledger.state(image_id)
        if image_id is None or before is None:
            await self._insert()
            return
        wanted = Written(before.digest, before.revision + 1)
        with self.ledger.writing(image_id, wanted) as acknowledge:
            body = {"metadata": {"revision": wanted.revision}}
            answer = await self._send("write", "PATCH", f"/api/images/{image_id}", json=body)
            if answer is not None:
                acknowledge(answer["token"])

    async def _delete(self) -> None:
        image_id = self.ledger.borrow(self._random)
        if image_id is None or self.ledger.state(image_id) is None:
            await self._insert()
            return
        with self.ledger.writing(image_id, None) as acknowledge:
            answer = await self._send("write", "DELETE", f"/api/images/{image_id}")
            if answer is not None:
                acknowledge(answer["token"])

    async def _send(self, kind: Kind, method: str, path: str, **body: Any) -> dict[str, Any] | None:
        """The answer to a request that succeeded, None otherwise; either way it is noted."""
        began = time.monotonic()
        answer: dict[str, Any] | None = None
        result, excused, replica = "timeout", False, ""
        try:
            async with asyncio.timeout(_CLIENT_S[kind]):
                response = await self._client.request(method, path, timeout=None, **body)
            result, excused = _result(response), "retry-after" in response.headers
            if result == "ok":
                answer = response.json()
                replica = _replica(answer) if kind == "search" else ""
        except httpx.ConnectError:
            result = "refused"
        except httpx.TransportError:
            result = "broken"
        except TimeoutError:
            pass
        self.outcomes.append(Outcome(kind, began, time.monotonic(), result, excused, replica))
        return answer


def _form(picture: bytes, fields: dict[str, str]) -> dict[str, Any]:
    return {"files": {"image": ("picture.jpg", picture, "image/jpeg")}, "data": fields}


def _result(response: httpx.Response) -> str:
    if response.is_error:
        return str(response.status_code)
    return "ok" if response.json().get("complete", True) else "incomplete"


def _replica(answer: dict[str, Any] | None) -> str:
    shards = ((answer or {}).get("explain") or {}).get("shards") or [{}]
    return str(shards[0].get("replica", ""))


def counted(outcomes: list[Outcome]) -> Counter[str]:
    """Failures by kind."""
    return Counter(o.failure for o in outcomes if not o.ok)
