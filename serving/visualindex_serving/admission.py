"""Admission control: a gateway works on a bounded number of requests and bodies, and says so when it is full."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.problems import problem_response

_ALWAYS = ("/healthz", "/readyz", "/livez")
BODY_TIMEOUT_S = 60.0


class Admission:
    """ASGI middleware: 503 with `Retry-After` beyond `limit` requests in flight, 413 beyond `max_body` bytes."""

    def __init__(self, app: ASGIApp, *, limit: int, max_body: int) -> None:
        self._app = app
        self._limit = limit
        self._max_body = max_body
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await problem_response(refusal)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, _bounded(receive, self._max_body), send)
        finally:
            self._in_flight -= 1

    def _refusal(self, scope: Scope) -> ProblemError | None:
        if self._in_flight >= self._limit:
            detail = f"This gateway already works on {self._limit} requests; try again in a second."
            return ProblemError(ProblemType.OVERLOADED, detail, retry_after_s=1)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            return _too_large(self._max_body)
        return None


def _too_large(limit: int) -> ProblemError:
    detail = f"The request body is larger than {limit} bytes (limits.requestBytes of the index)."
    return ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})


def _bounded(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                message = await receive()
        except TimeoutError as exc:
            detail = f"No part of the request body arrived for {BODY_TIMEOUT_S:.0f} seconds."
            raise ProblemError(ProblemType.MALFORMED_BODY, detail) from exc
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        return message

    return bounded
