"""`visualindex demo`: a service with pictures in it and a few searches shown, in one command."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from visualindex.cli.up import STATE

if TYPE_CHECKING:
    from rich.console import Console

    from visualindex.cli.sources import Item
    from visualindex.spec import VisualIndex


def demo(
    images: Annotated[
        Path | None, typer.Option(help="Your own pictures: a folder or a manifest, as for `ingest`.")
    ] = None,
    state: Annotated[Path, STATE] = Path(".visualindex"),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
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
    items = _pictures(images or _furniture(state, console))
    tour = Tour(items, state / "demo" / f"{index.name}.jsonl", console, once=once)
    supervisor = Supervisor([index], Options(state, port=port), lambda line: console.print(f"[dim]{line}[/]"))
    try:
        supervisor.run(tour.start, tour.stop)
    finally:
        tour.stop()
    if once and not tour.succeeded:
        raise typer.Exit(1)


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)


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


def _pictures(source: Path) -> list["Item"]:
    """Everything usable in the source, refused before anything is started when that is nothing."""
    from visualindex.cli.sources import Item, read_source
    from visualindex.errors import ProblemError, ProblemType

    items = [entry for entry in read_source(str(source)) if isinstance(entry, Item)]
    if not items:
        detail = f"{source} holds no pictures: name a folder with JPEG, PNG or WebP files, or a manifest"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    return items
