"""`kubectl visualindex rollback`: the generation that was served before, again."""

import typer

from visualindex.cli.connection import ApiKey
from visualindex_operator.kubectl.options import Context, Name, Namespace


def rollback(
    name: Name, api_key: ApiKey = None, namespace: Namespace = None, context: Context = None
) -> None:
    """Have the generation served again that was served before. No write is lost: every generation follows them.

    Without an API key, that of the index's Secret is taken.
    """
    from visualindex.client import Client
    from visualindex_operator.kubectl.generation_table import served
    from visualindex_operator.kubectl.reaching import reached

    with (
        reached(name, context, namespace, api_key) as service,
        Client(service.url, api_key=service.key, attempts=1) as client,  # a repeat would go forth again
    ):
        typer.echo(served(client.roll_back(name)))
