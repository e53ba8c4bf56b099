"""`visualindex search`: what looks like this picture?"""

import json
import uuid
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visualindex.cli.connection import DEFAULT_SERVICE, ApiKey, IndexOption, ServiceUrl

if TYPE_CHECKING:
    from rich.table import Table

    from visualindex.api.search import Query, SearchRequest, SearchResponse
    from visualindex.client import Client

MOST_HITS = 10_000
"""What a request may ask for; an index may allow fewer."""


class Rerank(StrEnum):
    """What `--rerank` takes."""

    AUTO = "auto"
    TRUE = "true"
    FALSE = "false"
    EXACT = "exact"


_RERANK: dict[Rerank, bool | str] = {Rerank.TRUE: True, Rerank.FALSE: False, Rerank.EXACT: "exact"}
_ID_COLUMNS = 36
_PIPE_COLUMNS = 10_000


def search(
    target: Annotated[
        str,
        typer.Argument(help="Picture file, http(s) address, or id of an indexed image.", show_default=False),
    ],
    index: IndexOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            max=MOST_HITS,
            help="Most hits; default 10, or what the domain says.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--filter", help="""Filter as text, e.g. 'category = "Chairs" and price < 100', or as JSON."""
        ),
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", help="Only items of this domain; may be repeated.")
    ] = None,
    rerank: Annotated[
        Rerank,
        typer.Option(
            help="Reorder the first hits by local features: as the index has it, where it can, never, or with copies of "
            "the very picture first."
        ),
    ] = Rerank.AUTO,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the hits with their pictures into one self-contained page.")
    ] = None,
) -> None:
    """Search an index with a picture, an address, or the id of an indexed image."""
    from visualindex.client import Client

    request, image = _request(target, index, limit, _filter(where), domain, rerank)
    with Client(service, api_key=api_key) as client:
        answer = client.search(request, image=image)
        if as_json:
            typer.echo(answer.model_dump_json(indent=2))
        else:
            _print_table(answer)
        if html:
            _write_page(html, answer, client, image)
            typer.echo(f"page: {html}", err=as_json)


def _request(
    target: str,
    index: str | None,
    limit: int | None,
    where: dict[str, object] | str | None,
    domains: list[str] | None,
    rerank: Rerank,
) -> "tuple[SearchRequest, bytes | None]":
    """What to send. Raises ProblemError for what no service would take, so that nothing is sent."""
    from pydantic import ValidationError

    from visualindex.api.search import SearchRequest
    from visualindex.errors import ProblemError, ProblemType

    try:
        query, image = _query(target)
        named: dict[str, Any] = {"domain": domains} if domains else {"limit": 10}
        given = named if limit is None else {**named, "limit": limit}
        if rerank is not Rerank.AUTO:  # a service of the release before knows no such field
            given["rerank"] = _RERANK[rerank]
        return SearchRequest(index=index, query=query, filter=where, **given), image
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProblemError(ProblemType.INVALID_REQUEST, found) from None


def _write_page(path: Path, answer: "SearchResponse", client: "Client", image: bytes | None) -> None:
    from visualindex.cli.gallery import write_gallery
    from visualindex.errors import ProblemError, ProblemType

    try:
        write_gallery(path, answer, client, query_image=image)
    except OSError as error:
        detail = f"the page {path} cannot be written: {error.strerror or error}"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None


def _query(target: str) -> tuple["Query", bytes | None]:
    from visualindex.api.search import Query
    from visualindex.errors import ProblemError, ProblemType

    if target.startswith(("http://", "https://")):
        return Query(image_url=target), None
    path = Path(target)
    if path.is_dir():
        raise ProblemError(ProblemType.INVALID_REQUEST, f"{target} is a folder: name one picture")
    if path.is_file():
        return Query(), _picture(path)
    try:
        return Query(image_id=uuid.UUID(target)), None
    except ValueError:
        detail = f"{target} is neither a file, an http(s) address nor an image id: name one of these"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None


def _picture(path: Path) -> bytes:
    from visualindex.errors import ProblemError, ProblemType

    try:
        data = path.read_bytes()
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror or error}"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None
    if not data:
        raise ProblemError(ProblemType.INVALID_REQUEST, f"{path} is empty: name a picture")
    return data


def _filter(text: str | None) -> dict[str, object] | str | None:
    """JSON as an object; the text form as it is, for only the service knows the index's attributes."""
    from visualindex.errors import ProblemError, ProblemType
    from visualindex.filters import is_text_form

    if text is None or is_text_form(text):
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ProblemError(ProblemType.INVALID_FILTER, f"--filter is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProblemError(ProblemType.INVALID_FILTER, "--filter is not a JSON object: see docs/filters.md")
    return value


def _print_table(answer: "SearchResponse") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS  # what reads a pipe has no edge to cut at
    if answer.hits:
        console.print(_table(answer, console.width))
    console.print(_summary(answer))


def _table(answer: "SearchResponse", width: int) -> "Table":
    """The hits within `width` columns: an id stays whole, names and long addresses go on in the next line."""
    from rich.markup import escape
    from rich.table import Table

    shown = [hit.url or str(hit.image_id) for hit in answer.hits]
    table = Table("", "score", box=None, pad_edge=False)
    table.add_column("name", overflow="fold")
    table.add_column("category", overflow="fold")
    table.add_column("image", overflow="fold", width=min(max(map(len, shown)), max(_ID_COLUMNS, width // 2)))
    for rank, (hit, image) in enumerate(zip(answer.hits, shown, strict=True), start=1):
        name = str((hit.metadata or {}).get("name") or hit.key or "")
        table.add_row(str(rank), f"{hit.score:.3f}", escape(name), escape(hit.category or ""), escape(image))
    return table


def _summary(answer: "SearchResponse") -> str:
    hits = "1 hit" if len(answer.hits) == 1 else f"{len(answer.hits)} hits"
    text = f"{hits} in {answer.took_ms:.0f} ms from index {answer.index}"
    if answer.reranked:
        text = f"{text}; reranked"
    if answer.rerank_reason:
        text = (
            f"{text} ({answer.rerank_reason})"
            if answer.reranked
            else f"{text}; not reranked: {answer.rerank_reason}"
        )
    if answer.full_shards:
        text = f"{text}; INCOMPLETE: a shard is full (raise index.memoryPerShard)"
    if answer.complete or (answer.full_shards and not answer.missing_shards):
        return text
    return f"{text}; INCOMPLETE: a shard did not answer in time"
