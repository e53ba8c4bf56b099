"""What the demo does beside the running service: index pictures with a progress bar, search with some, show hits."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visualindex.api.search import SearchRequest, SearchResponse
from visualindex.cli.connection import DEFAULT_SERVICE
from visualindex.cli.journal import Journal
from visualindex.cli.progress import progress_bar
from visualindex.cli.sources import Entry, Item
from visualindex.cli.uploading import Outcome, Tally, upload
from visualindex.client import AsyncClient
from visualindex.errors import ProblemError, ProblemType

if TYPE_CHECKING:
    from visualindex.api.images import IndexView

_CONCURRENCY = 8
_SEARCHES = 3
_HITS = 5
_SHOWN_FAILURES = 3
_STOP_S = 10.0


class Tour:
    """Runs on an event loop in a thread of its own, because the main thread watches the service.

    `succeeded` is true once every search was answered with hits. With `once` the process is asked to stop then; without
    a single picture in the index (`indexed` false) it is asked to stop in any case.
    """

    def __init__(self, entries: Sequence[Entry], journal: Path, console: Console, *, once: bool) -> None:
        self.succeeded = False
        self.indexed = True
        self._entries = entries
        self._journal = journal
        self._console = console
        self._once = once
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self, url: str) -> None:
        """Begin; returns at once."""
        self._console.print(f"[green]ready[/]: {url}/")
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._show(url))
        arguments = (self._loop, self._task)
        self._thread = threading.Thread(target=self._run, args=arguments, name="tour", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Break it off where it is; pictures that were acknowledged stay. May be called again."""
        if self._loop is None or self._task is None or self._thread is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_STOP_S)

    def _run(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
        try:
            loop.run_until_complete(task)
            self.succeeded = True
        except asyncio.CancelledError:
            return
        except ProblemError as problem:
            self._console.print(f"[red]error:[/] {escape(problem.detail)}")
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
        if self._once or not self.indexed:
            os.kill(os.getpid(), signal.SIGTERM)

    async def _show(self, url: str) -> None:
        async with AsyncClient(url, connections=_CONCURRENCY) as client:
            [view] = await client.list_indexes()
            await self._ingest(client, view)
            samples = _samples([entry for entry in self._entries if isinstance(entry, Item)])
            for item in samples:
                await self._search(client, item)
        self._say_goodbye(url, samples)

    async def _ingest(self, client: AsyncClient, view: "IndexView") -> None:
        with Journal(self._journal) as journal:
            if view.images == 0:
                journal.clear()
            with progress_bar(quiet=False) as progress:
                task = progress.add_task(f"index {view.name}", total=len(self._entries), failed=0)
                failed = 0

                def report(outcome: Outcome) -> None:
                    nonlocal failed
                    failed += outcome == "failed"
                    progress.update(task, advance=1, failed=failed)

                tally = await upload(
                    client, view.name, self._entries, journal, concurrency=_CONCURRENCY, report=report
                )
        self._account(tally)

    def _account(self, tally: Tally) -> None:
        failed = f", {len(tally.failures)} refused" if tally.failures else ""
        self._console.print(f"{tally.stored} pictures indexed, {tally.skipped} already there{failed}")
        for failure in tally.failures[:_SHOWN_FAILURES]:
            reason = f"{failure.place}: {failure.problem['detail']}"
            self._console.print(f"[yellow]refused:[/] {escape(reason)}")
        if tally.stopped is not None:
            raise tally.stopped
        self.indexed = tally.stored + tally.skipped > 0
        if not self.indexed:
            raise ProblemError(ProblemType.INVALID_REQUEST, "no picture could be indexed: choose others")

    async def _search(self, client: AsyncClient, item: Item) -> None:
        assert item.path is not None  # noqa: S101 - samples have one
        data = await asyncio.to_thread(item.path.read_bytes)
        answer = await client.search(SearchRequest(limit=_HITS, consistency="strong"), image=data)
        if not answer.hits:
            raise ProblemError(ProblemType.UNAVAILABLE, f"the search with {item.path} found nothing")
        self._console.print(f"\n[bold]{escape(_name(item))}[/] looks like  [dim]{answer.took_ms:.0f} ms[/]")
        self._console.print(_table(answer))

    def _say_goodbye(self, url: str, samples: Sequence[Item]) -> None:
        if self._once:
            return
        hint = ", or" if samples else ""
        self._say(f"\nopen [bold]{url}/[/] in a browser and drop a picture on it{hint}")
        for item in samples[:1]:
            self._say(f"  curl -F 'image=@{escape(str(item.path))}' {url}/api/search")
        if url != DEFAULT_SERVICE:
            self._say(f"for other commands beside it: [bold]export VISUALINDEX_URL={url}[/]")
        self._say("[dim]Ctrl-C stops the service; the pictures stay for the next time[/]")

    def _say(self, line: str) -> None:
        """Print a line that a terminal may wrap but that is copied whole."""
        self._console.print(line, soft_wrap=True)


def _samples(items: Sequence[Item]) -> list[Item]:
    """The middle picture of each of the largest categories; without categories, pictures far apart."""
    by_category: dict[str | None, list[Item]] = {}
    for item in items:
        if item.path is not None:
            by_category.setdefault(item.category, []).append(item)
    groups = sorted(by_category.values(), key=len, reverse=True)
    if len(groups) == 1:
        step = max(1, len(groups[0]) // _SEARCHES)
        return groups[0][step // 2 :: step][:_SEARCHES]
    return [group[len(group) // 2] for group in groups[:_SEARCHES]]


def _name(item: Item) -> str:
    return str(item.metadata.get("name") or item.key)


def _table(answer: SearchResponse) -> Table:
    table = Table.grid(padding=(0, 2))
    for hit in answer.hits:
        name = str((hit.metadata or {}).get("name") or hit.key or hit.image_id)
        table.add_row(f"  {hit.score:.3f}", escape(name), f"[dim]{escape(hit.category or '')}[/]")
    return table
