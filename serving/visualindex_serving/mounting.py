"""Where the gateway is mounted: at the root, or below a prefix that Serve leaves in a request's path.

Serve tells the prefix as ASGI's `root_path`. Whoever reads a path asks here for the part below it, and whoever answers
one puts `base_of` before it.
"""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def base_of(scope: Scope) -> str:
    """What stands before every path of the service: empty, or `/NAME`."""
    base: str = scope.get("root_path", "")
    return base.rstrip("/")


def path_of(scope: Scope) -> str:
    """The request's path as the service's own routes know it; empty at the bare prefix."""
    path: str = scope["path"]
    base = base_of(scope)
    return path.removeprefix(base) if path == base or path.startswith(f"{base}/") else path


class AsFolder:
    """ASGI middleware that sends the bare prefix to its folder, so that the page's relative addresses hold."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or redirect it."""
        if scope["type"] == "http" and path_of(scope) == "":
            await RedirectResponse(f"{base_of(scope)}/", status_code=308)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
