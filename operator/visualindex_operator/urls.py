"""Which URLs can be asked at all: a resource may name what matches the pattern of a URL and is none."""

import httpx

_PORTS = range(1, 65536)


def parsed(text: str) -> httpx.URL | None:
    """The URL; None where no connection can be made to it, such as with a port that is no number or out of range."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return None
    usable = url.scheme in ("http", "https") and bool(url.host) and (url.port is None or url.port in _PORTS)
    return url if usable else None
