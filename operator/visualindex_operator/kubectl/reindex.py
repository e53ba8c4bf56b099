"""`kubectl visualindex reindex`: the index rebuilt from its originals."""

from typing import Annotated

import typer

from visualindex.cli.connection import ApiKey
from visualindex_operator.kubectl.options import Context, Name, Namespace, Output


def reindex(
    name: Name,
    activate: Annotated[
        bool, typer.Option("--activate", help="Have the generation served if it is good enough.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show how far it is until it ends.")] = False,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="Print the job as JSON.")] = None,
    api_key: ApiKey = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Make what images lack from their originals, then build a generation of all. One that is under way is told instead.

    It goes on without this command. With --watch exit code 1 says that it failed, or that what it built is not activated.
    Without an API key, that of the index's Secret is taken.
    """
    from visualindex.cli import watching
    from visualindex.cli.answers import raise_failed
    from visualindex.cli.index_pages import job_page
    from visualindex.client import Client
    from visualindex_operator.kubectl.reaching import reached

    with (
        reached(name, context, namespace, api_key) as service,
        Client(service.url, api_key=service.key) as client,
    ):
        job = client.reindex(name, activate=activate)
        if watch:
            job = watching.watch(client, name, job, quiet=output is not None)
    typer.echo(job.model_dump_json(indent=2) if output is not None else job_page(job))
    raise_failed(job, name)
