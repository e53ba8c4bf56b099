"""One picture by URL: redirects followed by hand, size and time bounded, nothing sent but the request itself."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpcore
import httpx

from visualindex import __version__
from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching.pinning import NameNotFoundError, PinnedBackend
from visualindex.fetching.policy import FetchPolicy, Target
from visualindex.fetching.resolving import Resolver, SystemResolver
from visualindex.spec.models import FetchSpec, LimitsSpec

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECT_TIMEOUT_S = 3.0
_MAX_CONNECTIONS = 64
_HEADERS = [
    (b"User-Agent", f"VisualIndex/{__version__}".encode()),
    (b"Accept", b"image/*, application/octet-stream;q=0.8"),
    # A compressed body could be small on the wire and huge in memory; pictures are compressed already.
    (b"Accept-Encoding", b"identity"),
    (b"Connection", b"close"),
]


@dataclass(frozen=True)
class Fetched:
    """What a URL led to."""

    data: bytes
    """The body, at most `limits.imageBytes` bytes."""
    content_type: str | None
    """Media type the server named, lower case, without parameters. A claim, not a fact."""
    final_url: str
    """The URL after redirects."""


class SafeFetcher:
    """Fetches pictures for callers who must not reach the service's own network through it.

    Scheme and port are allow-listed, every address of every host on the way is checked and pinned for its connection,
    proxies, cookies and credentials do not exist. A connection serves one request.
    """

    def __init__(
        self,
        spec: FetchSpec,
        limits: LimitsSpec,
        resolver: Resolver | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` replaces the trusted authorities, which else are those of SSL_CERT_FILE or the bundled ones."""
        self._spec = spec
        self._max_bytes = limits.image_bytes
        self._policy = FetchPolicy(spec)
        self._resolver = resolver or SystemResolver()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=0,
            network_backend=PinnedBackend(self._policy, self._resolver),
        )

    async def fetch(self, url: str, *, deadline: float) -> Fetched:
        """Fetch `url` before `deadline` and within `fetch.timeoutMs`.

        `deadline` is in seconds on the event loop's clock: `loop.time()`, which is `time.monotonic()`.

        Raises `ProblemError` FETCH_REFUSED when the rules forbid the URL or a redirect, and FETCH_FAILED when the host
        does not resolve or answer, answers other than 200, sends too much, or is too slow.
        """
        now = asyncio.get_running_loop().time()
        allowed_s = min(deadline - now, self._spec.timeout_ms / 1000)
        target = self._policy.target_of(url)
        try:
            async with asyncio.timeout_at(now + allowed_s):
                return await self._follow(target)
        except TimeoutError as error:
            raise _failed(
                f"{target.host} took too long: at most {self._spec.timeout_ms} ms are allowed"
            ) from error

    async def close(self) -> None:
        """Close connections and the resolver."""
        await self._pool.aclose()
        await self._resolver.close()

    async def _follow(self, target: Target) -> Fetched:
        for _ in range(self._spec.max_redirects + 1):
            async with self._answer(target) as response:
                location = _location(response)
                if location is None:
                    return Fetched(await self._body(target, response), _media_type(response), str(target.url))
            target = self._policy.target_of(_joined(target.url, location))
        raise _failed(
            f"{target.host} redirects more than {self._spec.max_redirects} times (fetch.maxRedirects)"
        )

    @asynccontextmanager
    async def _answer(self, target: Target) -> AsyncIterator[httpcore.Response]:
        url = httpcore.URL(
            scheme=target.url.raw_scheme, host=target.host, port=target.port, target=target.url.raw_path
        )
        headers = [(b"Host", target.url.netloc), *_HEADERS]
        timeouts = {"connect": _CONNECT_TIMEOUT_S}
        try:
            async with self._pool.stream(
                "GET", url, headers=headers, extensions={"timeout": timeouts}
            ) as response:
                yield response
        except NameNotFoundError as error:
            raise _failed(f"{target.host} does not resolve: check the host name") from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise _failed(f"{target.host} could not be read from: {_reason(error)}") from error

    async def _body(self, target: Target, response: httpcore.Response) -> bytes:
        if response.status != 200:
            raise _failed(f"{target.host} answers with status {response.status}")
        if (_header(response, b"content-encoding") or "identity").strip().lower() != "identity":
            raise _failed(f"{target.host} sends an encoded body although none was asked for")
        declared = _header(response, b"content-length") or "0"
        if not declared.isdecimal() or int(declared) > self._max_bytes:
            raise self._too_large(target)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large(target)
        return bytes(body)

    def _too_large(self, target: Target) -> ProblemError:
        return _failed(
            f"{target.host} sends more than the {self._max_bytes} bytes that limits.imageBytes allows"
        )


def _failed(detail: str) -> ProblemError:
    return ProblemError(ProblemType.FETCH_FAILED, detail)


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)


def _location(response: httpcore.Response) -> str | None:
    return _header(response, b"location") if response.status in _REDIRECTS else None


def _joined(base: httpx.URL, location: str) -> str:
    try:
        return str(base.join(location))
    except (httpx.InvalidURL, ValueError):
        # Judged, and refused, as it stands.
        return location


def _media_type(response: httpcore.Response) -> str | None:
    value = _header(response, b"content-type")
    return value.partition(";")[0].strip().lower() if value else None


def _reason(error: Exception) -> str:
    if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
        return "the TLS connection failed; check the certificate"
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return "no connection"
    return "the connection broke or did not speak HTTP"
