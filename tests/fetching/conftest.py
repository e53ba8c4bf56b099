"""Real servers on loopback, a resolver whose answers a test writes, and a fetcher on top of both."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from ssl import SSLContext

import pytest

from visualindex.fetching import SafeFetcher
from visualindex.fetching.addresses import IPAddress
from visualindex.spec.models import FetchSpec, LimitsSpec

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Site:
    """An HTTP server of raw answers by path; remembers the requests it got."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.connections = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def reply(self, path: str, body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> None:
        """Answer `path` with a complete response."""
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode()

        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(head + body)

        self.answers[path] = answer

    def redirect(self, path: str, location: str, status: str = "302 Found") -> None:
        """Answer `path` with a redirect."""
        self.reply(path, status=status, headers=f"location: {location}\r\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        if task := asyncio.current_task():
            self._tasks.add(task)
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            await self.answers[request.split(" ")[1]](writer)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def finish(self) -> None:
        """Wait until every connection has ended."""
        await asyncio.gather(*self._tasks)


class ScriptedResolver:
    """Answers with what the test says, one answer after the other; the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise OSError("no such name")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(address) for address in answer]

    async def close(self) -> None:
        pass


OpenSite = Callable[..., Awaitable[Site]]
OpenFetcher = Callable[..., SafeFetcher]


@pytest.fixture
async def open_site() -> AsyncIterator[OpenSite]:
    """Start servers; each ends with the test."""
    started: list[tuple[asyncio.Server, Site]] = []

    async def start(*, address: str = "127.0.0.1", port: int = 0, tls: SSLContext | None = None) -> Site:
        site = Site()
        server = await asyncio.start_server(site.serve, address, port, ssl=tls)
        site.port = server.sockets[0].getsockname()[1]
        started.append((server, site))
        return site

    yield start
    for server, site in started:
        server.close()
        await site.finish()


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    """A plain HTTP server on 127.0.0.1."""
    return await open_site()


@pytest.fixture
def resolver() -> ScriptedResolver:
    """Knows no name until the test adds some."""
    return ScriptedResolver()


@pytest.fixture
async def open_fetcher(resolver: ScriptedResolver) -> AsyncIterator[OpenFetcher]:
    """Build fetchers; each is closed with the test."""
    opened: list[SafeFetcher] = []

    def build(*, image_bytes: int = 1024**2, tls: SSLContext | None = None, **rules: object) -> SafeFetcher:
        fetcher = SafeFetcher(FetchSpec(**rules), LimitsSpec(image_bytes=image_bytes), resolver, tls=tls)  # type: ignore[arg-type]
        opened.append(fetcher)
        return fetcher

    yield build
    for fetcher in opened:
        await fetcher.close()
