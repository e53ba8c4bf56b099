"""`kubectl visualindex ingest`: `visualindex ingest`, through a forwarded port."""

from pathlib import Path
from typing import Annotated

import typer

from visualindex.cli.connection import ApiKey
from visualindex.cli.ingest import Again, Concurrency, Failures, Source
from visualindex_operator.kubectl.options import Context, Name, Namespace, Output


def ingest(
    name: Name,
    source: Source,
    concurrency: Concurrency = 8,
    failures: Failures = Path("visualindex-failures.jsonl"),
    again: Again = False,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print the outcome as JSON.")
    ] = None,
    api_key: ApiKey = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Index the pictures of a folder, a manifest or a list of addresses.

    A second run sends what is new or changed. Exit code 0: all stored; 1: some refused, or stopped early. Without an API
    key, that of the index's Secret is taken.
    """
    from visualindex.cli.ingest import take_in
    from visualindex_operator.kubectl.reaching import reached

    with reached(name, context, namespace, api_key) as service:
        take_in(
            source,
            name,
            service.url,
            service.key,
            concurrency=concurrency,
            failures=failures,
            again=again,
            as_json=output is Output.JSON,
            known_as=service.lasting_name,
        )
