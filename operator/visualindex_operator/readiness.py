"""Whether a gateway can be searched, asked as a client would: through the address that clients use."""

import asyncio

import httpx
from pydantic import ValidationError

from visualindex.api.health import Readiness
from visualindex_operator.bounded_bodies import body_of
from visualindex_operator.urls import parsed

_LIMIT_S = 3.0
_MOST_BYTES = 64 * 1024


async def answers(url: str, client: httpx.AsyncClient) -> str | None:
    """None when the gateway under `url` is ready; otherwise why not, for a condition's message."""
    address = f"{url.rstrip('/')}/readyz"
    if parsed(address) is None:
        return f"{address} is no URL that can be asked: correct host and port (1 to 65535) of spec.ray.external.serveUrl."
    try:
        async with asyncio.timeout(_LIMIT_S), client.stream("GET", address, timeout=_LIMIT_S) as response:
            body = await body_of(response, _MOST_BYTES)
    except (TimeoutError, httpx.TimeoutException):
        return f"{address} does not answer within {_LIMIT_S:g} s."
    except httpx.RequestError as error:
        return f"{address} cannot be reached: {str(error) or type(error).__name__}."
    return None if response.status_code == httpx.codes.OK else _reason(address, response.status_code, body)


def _reason(address: str, status: int, body: bytes) -> str:
    try:
        reasons = Readiness.model_validate_json(body).reasons
    except ValidationError:
        reasons = {}
    if reasons:
        return f"{address} is not ready: {'; '.join(f'{part}: {why}' for part, why in reasons.items())}."
    if status == httpx.codes.NOT_FOUND:
        return f"{address} answers with status 404: no gateway is deployed there yet."
    return f"{address} answers with status {status}."
