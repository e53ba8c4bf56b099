"""`visualindex ingest --server-side`: pictures that the service reads by itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import ValidationError

from visualindex.api.ingesting import IngestRequest
from visualindex.cli.connection import only_index
from visualindex.cli.index_pages import job_line
from visualindex.cli.watching import watch
from visualindex.client import Client
from visualindex.errors import ProblemError, ProblemType

if TYPE_CHECKING:
    from visualindex.api.generations import JobView


def start(
    source: dict[str, Any],
    index: str | None,
    service: str,
    api_key: str | None,
    *,
    failures: Path,
    wait: bool,
    as_json: bool,
) -> None:
    """Start the batch, or join it where it is under way; with `wait` until its end: exit code 1 unless all went in."""
    given = {name: value for name, value in source.items() if value}
    with Client(service, api_key=api_key) as client:
        name = only_index(client, index).name
        job = client.start_batch(_request(name, given))
        if wait:
            job = watch(client, name, job, quiet=as_json)
        refused = client.refused(name, job.job_id) if job.result and job.result.get("refused") else b""
    _print(job, as_json)
    if refused:
        _write(failures, refused)
    if job.state in ("failed", "cancelled") or refused:
        raise typer.Exit(1)


def _request(index: str, source: dict[str, Any]) -> IngestRequest:
    try:
        return IngestRequest.model_validate({"index": index, "sources": [source]})
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
        raise ProblemError(ProblemType.INVALID_REQUEST, told) from None


def _print(job: "JobView", as_json: bool) -> None:
    typer.echo(job.model_dump_json(indent=2) if as_json else job_line(job))


def _write(failures: Path, lines: bytes) -> None:
    try:
        failures.write_bytes(lines)
    except OSError as error:
        typer.secho(f"{failures} cannot be written: {error.strerror or error}", err=True, fg="red")
    else:
        typer.secho(f"what was refused and why: {failures}", err=True, fg="yellow")
