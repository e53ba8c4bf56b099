"""Admission control: a gateway works on a bounded number of requests and bodies, and says so when it is full."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.mounting import path_of
from visualindex_serving.problems import problem_response

_ALWAYS = ("/healthz", "/readyz", "/livez", "/metrics")
_SEARCH = "/api/search"
_THUMBNAILS = "/api/thumbnails/"
_THUMBNAILS_PER_REQUEST = 2  # a page of hits asks for all of its thumbnails at once
BODY_TIMEOUT_S = 60.0


class Admission:
    """ASGI middleware: 503 with `Retry-After` beyond `limit` requests or `max_bytes` of bodies in flight.

    Thumbnails are counted by themselves, up to twice `limit`: those that wait to be made keep no search out.
    A body of more than `max_body` bytes, or `max_search_body` for a search, is answered 413, and one that has not
    arrived whole after `body_timeout_s` seconds 408.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: int,
        max_body: int,
        max_search_body: int,
        max_bytes: int,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._app = app
        self._body_limit = _BodyLimit(max_body, "limits.requestBytes of the index")
        self._search_limit = _BodyLimit(
            min(max_body, max_search_body),
            "for a search: a picture of limits.imageBytes and what is asked of it",
        )
        self._max_bytes = max_bytes
        self._body_timeout_s = body_timeout_s
        self._requests = _Places(limit)
        self._thumbnails = _Places(limit * _THUMBNAILS_PER_REQUEST)
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or (path := path_of(scope)) in _ALWAYS:
            await self._app(scope, receive, send)
            return
        allowed = self._search_limit if path == _SEARCH else self._body_limit
        declared = _declared(scope)
        places = self._thumbnails if path.startswith(_THUMBNAILS) else self._requests
        refusal = self._refusal(declared, allowed, places)
        if refusal is not None:
            await problem_response(refusal)(scope, receive, send)
            return
        held = declared
        places.taken += 1
        self._bytes += held

        def arrived(size: int) -> None:
            """Count what comes beyond the declared length, as all of a chunked body does."""
            nonlocal held
            if size > allowed.bytes:
                raise allowed.problem()
            more = max(0, size - held)
            if self._bytes + more > self._max_bytes:
                raise self._full()
            held += more
            self._bytes += more

        try:
            await self._app(scope, _bounded(receive, arrived, self._body_timeout_s), send)
        finally:
            places.taken -= 1
            self._bytes -= held

    def _refusal(self, declared: int, allowed: "_BodyLimit", places: "_Places") -> ProblemError | None:
        if places.taken >= places.limit:
            detail = f"This gateway already works on {places.limit} such requests; try again in a second."
            return ProblemError(ProblemType.OVERLOADED, detail, retry_after_s=1)
        if declared > allowed.bytes:
            return allowed.problem()
        return self._full() if self._bytes + declared > self._max_bytes else None

    def _full(self) -> ProblemError:
        detail = f"This gateway already holds nearly {self._max_bytes} bytes of request bodies; try again in a second."
        return ProblemError(ProblemType.OVERLOADED, detail, retry_after_s=1)


@dataclass
class _Places:
    """How many requests of a kind may be in flight, and how many are."""

    limit: int
    taken: int = 0


@dataclass(frozen=True)
class _BodyLimit:
    """Most bytes of a body, and where that is from."""

    bytes: int
    source: str

    def problem(self) -> ProblemError:
        """The problem of a larger body."""
        detail = f"The request body is larger than {self.bytes} bytes ({self.source})."
        return ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": self.bytes})


def _declared(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _bounded(receive: Receive, count: Callable[[int], None], timeout_s: float) -> Receive:
    """`receive` with the body bounded in time, and in bytes by `count`, which is told how many have come so far.

    What comes after the body (a disconnect) may take its time.
    """
    seen = 0
    arrived = False
    until = asyncio.get_running_loop().time() + timeout_s

    async def bounded() -> Message:
        nonlocal seen, arrived
        if arrived:
            return await receive()
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError as exc:
            detail = f"The request body did not arrive whole within {timeout_s:g} seconds."
            raise ProblemError(ProblemType.BODY_TIMEOUT, detail) from exc
        arrived = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        count(seen)
        return message

    return bounded
