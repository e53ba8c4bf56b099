"""Admission control: a gateway works on a bounded number of requests and bodies, and says so when it is full."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.problems import problem_response

_ALWAYS = ("/healthz", "/readyz", "/livez", "/metrics")
BODY_TIMEOUT_S = 60.0


class Admission:
    """ASGI middleware: 503 with `Retry-After` beyond `limit` requests in flight, 413 beyond `max_body` bytes.

    A body that has not arrived whole after `body_timeout_s` seconds is answered 408.
    """

    def __init__(
        self, app: ASGIApp, *, limit: int, max_body: int, body_timeout_s: float = BODY_TIMEOUT_S
    ) -> None:
        self._app = app
        self._limit = limit
        self._max_body = max_body
        self._body_timeout_s = body_timeout_s
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
            await self._app(scope, _bounded(receive, self._max_body, self._body_timeout_s), send)
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


def _bounded(receive: Receive, limit: int, timeout_s: float) -> Receive:
    """`receive` with the body bounded in bytes and time; what comes after the body (a disconnect) may take its time."""
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
        if seen > limit:
            raise _too_large(limit)
        return message

    return bounded
