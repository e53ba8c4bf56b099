"""`kubectl visualindex generations`: the snapshots of an index, building one, and choosing the one that is served."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from visualindex.cli.connection import ApiKey
from visualindex_operator.kubectl.options import Context, Name, Namespace, Output

if TYPE_CHECKING:
    from visualindex.api.generations import JobView
    from visualindex.client import Client

_LOOK_S = 1.0


def generations(
    name: Name,
    build: Annotated[
        bool,
        typer.Option(
            "--build",
            help="Build one of what the index has now; it is served if its recall meets the target.",
        ),
    ] = False,
    activate: Annotated[
        str | None, typer.Option("--activate", metavar="ID", help="Have this one served.", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --activate: though the quality gate refused it.")
    ] = False,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="Print JSON.")] = None,
    api_key: ApiKey = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """List the generations of an index, the newest first; build one, or choose the one that is served.

    Without an API key, that of the index's Secret is taken.
    """
    from visualindex.client import Client
    from visualindex_operator.kubectl.generation_table import served, show_all
    from visualindex_operator.kubectl.reaching import reached

    if build and activate:
        raise typer.BadParameter("--build serves what it builds: leave --activate out")
    if force and not activate:
        raise typer.BadParameter("--force overrules the quality gate for --activate ID")
    with (
        reached(name, context, namespace, api_key) as service,
        Client(service.url, api_key=service.key) as client,
    ):
        if build:
            _build(client, name)
        if activate:
            typer.echo(served(client.activate_generation(name, activate, force=force)), err=True)
        show_all(client.list_generations(name), output)


def _build(client: "Client", name: str) -> None:
    """Wait for the end of the job, telling how far it is. Raises ProblemError when it fails."""
    from visualindex.errors import ProblemError, ProblemType

    job, told = client.build_generation(name, activate=True), ""
    while job.state in ("queued", "running"):
        if (line := _progress(job)) != told:
            typer.echo(line, err=True)
        told = line
        time.sleep(_LOOK_S)
        job = client.get_job(name, job.job_id)
    if job.state != "done":
        raise ProblemError(
            ProblemType.CONFLICT, f"no generation was built ({job.state}): {job.problem or 'see the logs'}"
        )
    typer.echo(_outcome(job), err=True)


def _progress(job: "JobView") -> str:
    far = f" {job.done:,} of {job.total:,}" if job.total else ""
    return f"{job.phase or job.state}{far}"


def _outcome(job: "JobView") -> str:
    result = job.result or {}
    what = f"generation {result.get('generation')} is built, recall@10 {result.get('recall', 1.0):.3f}"
    if result.get("gate") == "refused":
        return f"{what}: the quality gate refused it (`visualindex index generations` says why), so it is not served"
    if not result.get("met", True):
        return f"{what}: less than the target, so it is not served by itself (--activate {result.get('generation')})"
    if "kept_back" in result:
        return f"{what}: {result['kept_back']} (--activate {result.get('generation')})"
    return f"{what}: it is served as soon as every shard has loaded it"
