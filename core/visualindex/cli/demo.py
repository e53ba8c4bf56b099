"""`visualindex demo`: a service with pictures in it and a few searches shown, in one command."""

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from visualindex.cli.up import STATE

if TYPE_CHECKING:
    from rich.console import Console

    from visualindex.cli.sources import Entry
    from visualindex.spec import VisualIndex


def demo(
    images: Annotated[
        Path | None, typer.Option(help="Your own pictures: a folder or a manifest, as for `ingest`.")
    ] = None,
    state: Annotated[Path, STATE] = Path(".visualindex"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    once: Annotated[bool, typer.Option("--once", help="Stop after the searches.")] = False,
) -> None:
    """Run the service here with a furniture catalogue in it, show what it finds, and stay up until Ctrl-C.

    A second run finds the pictures still there. Exit code 1 when the pictures could not be indexed or searched.
    """
    from rich.console import Console

    from visualindex.cli.tour import Tour
    from visualindex.local.supervisor import Options, Supervisor

    # Before the supervisor watches for signals too: an interrupted fetch ends what it started.
    signal.signal(signal.SIGTERM, _terminated)
    console = Console(stderr=True, highlight=False)
    index = _index("images" if images else "furniture")
    _check_port(state, port)
    entries = _entries(images, state, console)
    tour = Tour(entries, state / "demo" / f"{index.name}.jsonl", console, once=once)
    supervisor = Supervisor([index], Options(state, port=port), lambda line: console.print(f"[dim]{line}[/]"))
    try:
        supervisor.run(tour.start, tour.stop)
    finally:
        tour.stop()
    if not tour.indexed or (once and not tour.succeeded):
        raise typer.Exit(1)


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)


def _check_port(state: Path, port: int) -> None:
    """Before anything is fetched. A service in this very folder is left to the supervisor, who says how to stop it."""
    from visualindex.local.ports import require_free
    from visualindex.local.state import StateDir

    try:
        runs_here = StateDir(state.resolve()).read_running() is not None
    except OSError:  # a folder that nobody may read: said when it is written to
        runs_here = False
    if not runs_here:
        require_free(port)


def _check_writable(state: Path) -> None:
    from visualindex.errors import ProblemError, ProblemType

    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state):
            return
    except OSError as error:
        detail = f"the folder {state} cannot be written: {error.strerror or error}; name another with --state"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None


def _entries(images: Path | None, state: Path, console: "Console") -> list["Entry"]:
    """What to index. A state folder that cannot be used is refused before anything is fetched into it."""
    if images:
        entries = _pictures(images)
        _check_writable(state)
        return entries
    _check_writable(state)
    return _pictures(_furniture(state, console))


def _index(name: str) -> "VisualIndex":
    from visualindex.spec import API_VERSION, KIND, VisualIndex

    return VisualIndex.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}})


def _furniture(state: Path, console: "Console") -> Path:
    """The folder with the furniture catalogue, fetched on the first run."""
    from visualindex.collections import COLLECTIONS, MANIFEST, fetch_collection

    folder = state / "collections" / "furniture"
    if not (folder / MANIFEST).is_file():
        source = COLLECTIONS["furniture"]
        console.print(
            f"fetching {source.summary}: the Debian package {source.package}, with apt-get download"
        )
    return fetch_collection("furniture", folder).root


def _pictures(source: Path) -> list["Entry"]:
    """Everything in the source, refused before anything is started when nothing of it is a picture."""
    from visualindex.cli.sources import Item, Unusable, no_pictures, read_source

    entries = list(read_source(str(source)))
    if not any(isinstance(entry, Item) for entry in entries):
        raise no_pictures(str(source), next((e for e in entries if isinstance(e, Unusable)), None))
    return entries
