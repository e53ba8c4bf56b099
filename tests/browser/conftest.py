"""A Chromium that looks at the page and keeps account of everything it asks for and complains of."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from tests.browser.gateway import ARGUMENTS, CHROMIUM, Site, serve_site
from tests.serving.conftest import cache_dir, postgres

from visualindex.catalog import EmbeddedPostgres

__all__ = ["cache_dir", "postgres"]

Serve = Callable[..., AbstractContextManager[Site]]
Open = Callable[..., "Visit"]


@pytest.fixture(scope="session")
def serve(postgres: EmbeddedPostgres, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """`with serve(document, …) as site`: a gateway for the documents over a fresh database."""

    def serving(*documents: dict[str, Any]) -> AbstractContextManager[Site]:
        return serve_site(postgres, tmp_path_factory.mktemp("state"), cache_dir, list(documents))

    return serving


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Closed after each module: while it is open, its event loop keeps this thread from running another."""
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is missing: install Debian's chromium, or name one in VISUALINDEX_CHROMIUM"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
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
            self.complaints.append(f"{message.text} {urlsplit(message.location.get('url')).path}")

    def note_error(self, error: Exception) -> None:
        self.complaints.append(str(error))

    def hosts(self) -> set[str]:
        """Hosts asked over the network."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("blob:", "data:"))}


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
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
