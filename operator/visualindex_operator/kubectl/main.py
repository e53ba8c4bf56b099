"""The command `kubectl-visualindex`, which kubectl runs as `kubectl visualindex`."""

import sys

import typer

from visualindex_operator.kubectl.events import events
from visualindex_operator.kubectl.generations import generations
from visualindex_operator.kubectl.ingest import ingest
from visualindex_operator.kubectl.logs import logs
from visualindex_operator.kubectl.plan import approve, plan
from visualindex_operator.kubectl.port_forward import port_forward
from visualindex_operator.kubectl.reindex import reindex
from visualindex_operator.kubectl.rollback import rollback
from visualindex_operator.kubectl.search import search
from visualindex_operator.kubectl.status import status

app = typer.Typer(
    name="kubectl visualindex",
    help="Look at, change and use the visual search indexes of a cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(status)
app.command()(plan)
app.command()(approve)
app.command()(search)
app.command()(ingest)
app.command()(generations)
app.command()(rollback)
app.command()(reindex)
app.command()(logs)
app.command("port-forward")(port_forward)
app.command()(events)


def main() -> None:
    """Run the plugin; a problem the caller can mend is one line on stderr and exit code 1."""
    from visualindex.errors import ProblemError

    try:
        app(prog_name="kubectl visualindex")
    except ProblemError as problem:
        typer.secho(f"error: {problem.detail}", err=True, fg="red")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
