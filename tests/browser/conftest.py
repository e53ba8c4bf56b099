"""A gateway on a loopback port and a Chromium that looks at its page, keeping account of everything it complains of."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.serving.conftest import InProcess, cache_dir, postgres
from tests.serving.pictures import fresh_database
from visualindex.catalog import EmbeddedPostgres, migrate
from visualindex.spec import VisualIndex
from visualindex_serving.gateway import create_app

__all__ = ["cache_dir", "postgres"]

CHROMIUM = Path(os.environ.get("VISUALINDEX_CHROMIUM", "/usr/bin/chromium"))
_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Site:
    """A gateway on a loopback port."""

    address: str
    dsn: str
    http: httpx.Client


ServeSite = Callable[..., AbstractContextManager[Site]]


@pytest.fixture(scope="module")
def serve_site(
    postgres: EmbeddedPostgres, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> ServeSite:
    """`with serve_site(document, …) as site`: a gateway for the documents over a fresh database."""

    @contextmanager
    def serving(*documents: dict[str, Any]) -> Iterator[Site]:
        state = tmp_path_factory.mktemp("state")
        (state / "cache").symlink_to(cache_dir)
        with fresh_database(postgres) as dsn, pytest.MonkeyPatch.context() as patch:
            patch.setenv("VISUALINDEX_MODE", "local")
            patch.setenv("VISUALINDEX_LISTEN_HOST", "127.0.0.1")
            patch.setenv("VISUALINDEX_POSTGRES_DSN", dsn)
            patch.setenv("VISUALINDEX_STATE_DIR", str(state))
            with (
                _listening(dsn, list(documents)) as address,
                httpx.Client(base_url=address, timeout=60) as http,
            ):
                yield Site(address, dsn, http)

    return serving


@contextmanager
def _listening(dsn: str, documents: list[dict[str, Any]]) -> Iterator[str]:
    """The gateway in a thread with an event loop of its own; requests wait in the socket's queue until it is up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers: list[uvicorn.Server] = []

        async def run() -> None:
            await migrate(dsn)
            async with _gateway(dsn, documents) as app:
                servers.append(uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none")))
                await servers[0].serve(sockets=[listener])

        thread = Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            httpx.get(f"{address}/readyz", timeout=120).raise_for_status()
            yield address
        finally:
            for server in servers:
                server.should_exit = True
            thread.join()


@asynccontextmanager
async def _gateway(dsn: str, documents: list[dict[str, Any]]) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        shards = InProcess(dsn, [VisualIndex.model_validate(d) for d in documents], stack)
        yield create_app(documents, shards.connect)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is missing: install Debian's chromium, or name one in VISUALINDEX_CHROMIUM"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page with an account of what it asked for and complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def note_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def note_message(self, message: ConsoleMessage) -> None:
        """Errors and warnings, which is also how the browser reports a violation of the page's policy."""
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url')}")

    def note_error(self, error: Exception) -> None:
        self.complaints.append(str(error))

    def hosts(self) -> set[str]:
        """Hosts asked over the network."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("blob:", "data:"))}


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Visit]]:
    """`visit(site, **options)`: the site's page in a fresh browser profile with those context options."""
    contexts = []

    def open_page(site: Site, **options: Any) -> Visit:
        context = chromium.new_context(**options)
        contexts.append(context)
        visited = Visit(context.new_page())
        visited.page.on("request", visited.note_request)
        visited.page.on("console", visited.note_message)
        visited.page.on("pageerror", visited.note_error)
        visited.page.goto(site.address)
        return visited

    yield open_page
    for context in contexts:
        context.close()
