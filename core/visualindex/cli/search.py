"""`visualindex search`: what looks like this picture?"""

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visualindex.cli.connection import DEFAULT_SERVICE, ApiKey, IndexOption, ServiceUrl

if TYPE_CHECKING:
    from visualindex.api.search import Query, SearchResponse


def search(
    target: Annotated[
        str,
        typer.Argument(help="Picture file, http(s) address, or id of an indexed image.", show_default=False),
    ],
    index: IndexOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most hits.")] = 10,
    where: Annotated[
        str | None, typer.Option("--filter", help='Filter as JSON, e.g. {"eq": {"category": "Chairs"}}.')
    ] = None,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the hits with their pictures into one self-contained page.")
    ] = None,
) -> None:
    """Search an index with a picture, an address, or the id of an indexed image."""
    from visualindex.api.search import SearchRequest
    from visualindex.client import Client

    query, image = _query(target)
    request = SearchRequest(index=index, query=query, limit=limit, filter=_filter(where))
    with Client(service, api_key=api_key) as client:
        answer = client.search(request, image=image)
        if html:
            from visualindex.cli.gallery import write_gallery

            write_gallery(html, answer, client, query_image=image)
    if as_json:
        typer.echo(answer.model_dump_json(indent=2))
    else:
        _print_table(answer)
        if html:
            typer.echo(f"page: {html}")


def _query(target: str) -> tuple["Query", bytes | None]:
    from visualindex.api.search import Query
    from visualindex.errors import ProblemError, ProblemType

    if target.startswith(("http://", "https://")):
        return Query(image_url=target), None
    path = Path(target)
    if path.is_file():
        return Query(), path.read_bytes()
    try:
        return Query(image_id=uuid.UUID(target)), None
    except ValueError:
        detail = f"{target} is neither a file, an http(s) address nor an image id: name one of these"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None


def _filter(text: str | None) -> dict[str, object] | None:
    from visualindex.errors import ProblemError, ProblemType

    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ProblemError(ProblemType.INVALID_FILTER, f"--filter is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProblemError(ProblemType.INVALID_FILTER, "--filter is not a JSON object: see docs/filters.md")
    return value


def _print_table(answer: "SearchResponse") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "score", "name", "category", "image", box=None, pad_edge=False)
    for rank, hit in enumerate(answer.hits, start=1):
        name = str((hit.metadata or {}).get("name") or hit.key or "")
        shown = hit.url or str(hit.image_id)
        table.add_row(str(rank), f"{hit.score:.3f}", escape(name), escape(hit.category or ""), escape(shown))
    console = Console(highlight=False)
    if answer.hits:
        console.print(table)
    console.print(_summary(answer))


def _summary(answer: "SearchResponse") -> str:
    hits = "1 hit" if len(answer.hits) == 1 else f"{len(answer.hits)} hits"
    text = f"{hits} in {answer.took_ms:.0f} ms from index {answer.index}"
    return text if answer.complete else f"{text}; INCOMPLETE: a shard did not answer in time"
