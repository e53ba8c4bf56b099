"""The `visualindex` command.

One module per command. At its top a command module imports the standard library and typer only; everything else is
imported inside the function that needs it, so that `visualindex --help` answers at once. A new command is a module
and a line here.
"""

import sys
from typing import Annotated

import typer

from visualindex.cli.collections import collections
from visualindex.cli.database import database
from visualindex.cli.demo import demo
from visualindex.cli.doctor import doctor
from visualindex.cli.encoder import encoder
from visualindex.cli.indexes import indexes
from visualindex.cli.ingest import ingest
from visualindex.cli.jobs import jobs
from visualindex.cli.keys import keys
from visualindex.cli.plan import plan
from visualindex.cli.search import search
from visualindex.cli.up import down, status, up
from visualindex.cli.validate import validate

app = typer.Typer(
    name="visualindex",
    help="Visual search as one resource: upload a picture, get the items that look like it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"visualindex {version('visualindex')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command."""


app.command()(demo)
app.command()(up)
app.command()(down)
app.command()(status)
app.command()(ingest)
app.command()(search)
app.command()(validate)
app.command()(plan)
app.command()(doctor)
app.add_typer(indexes, name="index")
app.add_typer(jobs, name="jobs")
app.add_typer(keys, name="keys")
app.add_typer(database, name="database")
app.add_typer(encoder, name="encoder")
app.add_typer(collections, name="collections")


def main() -> None:
    """Run the command line; a problem the caller can mend is one line on stderr and exit code 1."""
    from visualindex.errors import ProblemError

    try:
        app()
    except ProblemError as problem:
        typer.secho(f"error: {problem.detail}", err=True, fg="red")
        sys.exit(1)
