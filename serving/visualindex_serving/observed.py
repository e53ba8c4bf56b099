"""Counts and times every request by route, without touching its body."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Observed:
    """ASGI middleware that reports to the service's metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and record its route, status and duration."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics = scope["app"].state.service.metrics
            metrics.requests.inc(tags={"route": route, "status": str(status)})
            metrics.latency.observe((time.perf_counter() - start) * 1000, tags={"route": route})
