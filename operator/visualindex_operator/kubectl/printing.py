"""Where commands print: tables as wide as the terminal, and whole lines where a program reads them."""

from rich.console import Console

_PIPE_COLUMNS = 10_000


def console() -> Console:
    """Standard output."""
    out = Console(highlight=False, markup=False, soft_wrap=False)
    if not out.is_terminal:
        out.width = _PIPE_COLUMNS  # what reads a pipe has no edge to cut at
    return out
