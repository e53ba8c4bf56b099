"""`kubectl visualindex search`: `visualindex search`, through a forwarded port."""

from pathlib import Path
from typing import Annotated

import typer

from visualindex.cli.connection import ApiKey
from visualindex.cli.search import MOST_HITS
from visualindex_operator.kubectl.options import Context, Name, Namespace, Output


def search(
    name: Name,
    target: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="Picture file, http(s) address, or id of an indexed image.",
            show_default=False,
        ),
    ],
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_HITS, help="Most hits.")] = 10,
    where: Annotated[
        str | None, typer.Option("--filter", help='Filter as JSON, e.g. {"eq": {"category": "Chairs"}}.')
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the hits with their pictures into one self-contained page.")
    ] = None,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="Print the answer as JSON.")] = None,
    api_key: ApiKey = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Search an index with a picture, an address, or the id of an indexed image.

    Without an API key, that of the index's Secret is taken.
    """
    from visualindex.cli.search import search as search_service
    from visualindex_operator.kubectl.reaching import reached

    with reached(name, context, namespace, api_key) as service:
        search_service(
            target,
            index=name,
            limit=limit,
            where=where,
            service=service.url,
            api_key=service.key,
            as_json=output is Output.JSON,
            html=html,
        )
