"""Few requests to the API server at once: a connection with TLS takes 0.3 MiB that no close gives back.

By itself kopf opens one for every request, and at a first start it has a request for every resource.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import kopf

AT_ONCE = 16
"""Requests under way, of kopf's and of the operator's own each. Watches come besides: they go on for minutes."""


@dataclass(frozen=True, kw_only=True)
class Login(kopf.AiohttpSession):
    """A session that equals others with the same credentials: those that were refused kopf does not try again."""

    aiohttp_session: aiohttp.ClientSession = field(compare=False)
    info: kopf.ConnectionInfo = field(repr=False)


async def login(**keywords: Any) -> Login | None:
    """kopf's way to the API server: the one of the Kubernetes client, by a session of ours."""
    info = await asyncio.to_thread(partial(kopf.login_via_client, **keywords))
    return None if info is None else by(info)


def by(info: kopf.ConnectionInfo) -> Login:
    """The session with these credentials, as kopf would make it but for the bound."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        middlewares=(at_most(AT_ONCE),),
    )
    return Login(
        server=info.server,
        default_namespace=info.default_namespace,
        priority=info.priority,
        expiration=info.expiration,
        aiohttp_session=session,
        info=info,
    )


def at_most(count: int) -> aiohttp.ClientMiddlewareType:
    """Has requests other than watches wait while there are so many."""
    places = asyncio.Semaphore(count)

    async def enter(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if "watch" in request.url.query:
            return await handler(request)
        async with places:
            return await handler(request)

    return enter
