"""Where commands print: as wide as the terminal, and whole lines where a program reads them."""

from collections.abc import Iterable

import typer
from rich.console import Console, RenderableType

_PIPE_COLUMNS = 10_000


def show(parts: Iterable[RenderableType]) -> None:
    """Print to standard output, without the spaces that fill a table's last column."""
    out = Console(highlight=False, markup=False)
    if not out.is_terminal:
        out.width = _PIPE_COLUMNS  # what reads a pipe has no edge to cut at
    with out.capture() as capture:
        for part in parts:
            out.print(part)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()), color=out.is_terminal)
