"""Open access is for programs and the page of this machine: other sites must not borrow a visitor's browser for it.

A browser reaches loopback for any page it shows. Its `Origin` tells a page of another site, and a host name that is
not loopback's tells a name that was pointed here (DNS rebinding). Whoever sends a key needs neither to be trusted.
"""

from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.access import presented_key
from visualindex_serving.mounting import path_of
from visualindex_serving.problems import problem_response
from visualindex_serving.service import Service

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROBES = ("/healthz", "/livez", "/readyz")
_READING = ("GET", "HEAD")


class Origins:
    """ASGI middleware: 403 for keyless requests of other sites while an index has open access."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refusal = _refusal(scope) if scope["type"] == "http" and path_of(scope) not in _PROBES else None
        await (self._app if refusal is None else problem_response(refusal))(scope, receive, send)


def _refusal(scope: Scope) -> ProblemError | None:
    service: Service = scope["app"].state.service
    if not any(index.open_access for index in service.indexes.values()):
        return None
    if presented_key(Request(scope)) is not None:
        return None
    headers = Headers(scope=scope)
    host = headers.get("host")
    if host is not None and _name(host) not in _LOOPBACK:
        return _forbidden(
            f"Without an API key this service answers only as 127.0.0.1, localhost or [::1], not as {host[:200]}; "
            "use one of these, or send a key."
        )
    if _foreign(headers, host, scope["method"]):
        return _forbidden(
            "Without an API key this service takes no requests of other sites' pages; send a key, or call it from "
            "a program or from its own page."
        )
    return None


def _foreign(headers: Headers, host: str | None, method: str) -> bool:
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        return True
    return method not in _READING and headers.get("sec-fetch-site") == "cross-site"


@lru_cache(maxsize=1024)
def _name(host: str) -> str | None:
    """The host name without its port, None when there is none to be read."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _forbidden(detail: str) -> ProblemError:
    return ProblemError(ProblemType.FORBIDDEN, detail)
