"""`visualindex ingest`: a collection of pictures into an index, as fast as the service takes them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visualindex.cli.connection import DEFAULT_SERVICE, ApiKey, IndexOption, ServiceUrl, only_index

if TYPE_CHECKING:
    from visualindex.api.images import IndexView
    from visualindex.cli.journal import Journal
    from visualindex.cli.uploading import Tally

_SHOWN_FAILURES = 10


Source = Annotated[
    str,
    typer.Argument(
        help="Folder, manifest (CSV, JSONL, Parquet), list of addresses (.txt), picture, or address; with --server-side "
        "s3://BUCKET/prefix, or what the service can read.",
        show_default=False,
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Pictures on their way at once.")]
Failures = Annotated[
    Path, typer.Option(help="Where pictures that were refused are listed, one JSON object a line.")
]
Again = Annotated[bool, typer.Option("--again", help="Send everything, also what an earlier run sent.")]


def ingest(
    source: Source,
    index: IndexOption = None,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    concurrency: Concurrency = 8,
    failures: Failures = Path("visualindex-failures.jsonl"),
    again: Again = False,
    server_side: Annotated[
        bool, typer.Option("--server-side", help="Have the service read SOURCE by itself, in the background.")
    ] = False,
    key_from: Annotated[
        str | None,
        typer.Option(help="With --server-side: the key of a prefix's pictures: path, name or stem."),
    ] = None,
    category_from: Annotated[
        str | None, typer.Option(help="With --server-side: `folder` takes the first folder as category.")
    ] = None,
    remove_missing: Annotated[
        bool,
        typer.Option(help="With --server-side: delete images whose objects are gone from SOURCE."),
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="With --server-side: wait for the end, and show how far it is.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON, and no progress bar.")
    ] = False,
) -> None:
    """Index the pictures of a folder, a manifest or a list of addresses.

    A manifest has the columns path or image_url, and key, category, url, metadata if you like; other columns become
    metadata. A second run sends what is new or changed. Exit code 0: all stored; 1: some refused, or stopped early.
    """
    if server_side:
        from visualindex.cli.batches import start

        start(
            {
                "location": source,
                "key": key_from,
                "category": category_from,
                "remove_missing": remove_missing,
            },
            index,
            service,
            api_key,
            failures=failures,
            wait=wait,
            as_json=as_json,
        )
        return
    take_in(
        source,
        index,
        service,
        api_key,
        concurrency=concurrency,
        failures=failures,
        again=again,
        as_json=as_json,
        known_as=service,
    )


def take_in(
    source: str,
    index: str | None,
    service: str,
    api_key: str | None,
    *,
    concurrency: int,
    failures: Path,
    again: bool,
    as_json: bool,
    known_as: str,
) -> None:
    """Do what `ingest` does; `known_as` names the service in the journal, where its address differs from run to run."""
    from visualindex.cli.journal import Journal, journal_path
    from visualindex.client import Client

    with Client(service, api_key=api_key) as client:
        view = only_index(client, index)
    location = source if "://" in source else str(Path(source).resolve())
    with Journal(journal_path(known_as, view.name, view.fingerprint, location)) as journal:
        if again or _is_outdated(journal, view):
            journal.clear()
        try:
            tally = _run(source, view.name, service, api_key, concurrency, journal, quiet=as_json)
        except KeyboardInterrupt:
            message = f"interrupted with {len(journal)} stored; run the same command again to go on"
            typer.secho(message, err=True, fg="yellow")
            raise typer.Exit(130) from None
    unwritten = _write_failures(tally, failures)
    _print_outcome(tally, failures, as_json, unwritten)
    if tally.failures or tally.stopped:
        raise typer.Exit(1)


def _is_outdated(journal: "Journal", view: "IndexView") -> bool:
    """An empty index under a journal that says otherwise: the service was set up anew."""
    return view.images == 0 and len(journal) > 0


def _run(
    source: str,
    index: str,
    service: str,
    api_key: str | None,
    concurrency: int,
    journal: "Journal",
    *,
    quiet: bool,
) -> "Tally":
    import asyncio

    from visualindex.cli.progress import progress_bar
    from visualindex.cli.sources import no_pictures, read_source
    from visualindex.cli.uploading import Outcome, upload
    from visualindex.client import AsyncClient

    total = sum(1 for _ in read_source(source))
    if not total:
        raise no_pictures(source)

    async def work() -> "Tally":
        async with AsyncClient(service, api_key=api_key, connections=concurrency) as client:
            with progress_bar(quiet=quiet) as progress:
                task = progress.add_task(f"ingest into {index}", total=total, failed=0)
                failed = 0

                def report(outcome: Outcome) -> None:
                    nonlocal failed
                    failed += outcome == "failed"
                    progress.update(task, advance=1, failed=failed)

                entries = read_source(source)
                return await upload(client, index, entries, journal, concurrency=concurrency, report=report)

    return asyncio.run(work())


def _write_failures(tally: "Tally", path: Path) -> str | None:
    """The list of this run: an earlier run's list goes when nothing failed this time. Why not, if it cannot be written."""
    try:
        if tally.failures:
            lines = (json.dumps(asdict(failure), ensure_ascii=False) + "\n" for failure in tally.failures)
            path.write_text("".join(lines), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _print_outcome(tally: "Tally", failures: Path, as_json: bool, unwritten: str | None) -> None:
    if as_json:
        _print_json(tally, failures if tally.failures and not unwritten else None)
    else:
        typer.echo(f"{tally.stored} stored, {tally.skipped} already there, {len(tally.failures)} failed")
    if unwritten:
        _print_unwritten(tally, failures, unwritten)
    elif tally.failures and not as_json:
        typer.secho(f"what failed and why: {failures}", err=True, fg="yellow")
    if tally.stopped and not as_json:
        message = f"stopped: {tally.stopped.detail}; run the same command again to go on where it stopped"
        typer.secho(message, err=True, fg="red")


def _print_json(tally: "Tally", failures: Path | None) -> None:
    counts = {"stored": tally.stored, "skipped": tally.skipped, "failed": len(tally.failures)}
    stopped = tally.stopped.document() if tally.stopped else None
    typer.echo(json.dumps({**counts, "stopped": stopped, "failures": str(failures) if failures else None}))


def _print_unwritten(tally: "Tally", failures: Path, why: str) -> None:
    """Without the file, the first failures are told here, so that the run was not for nothing."""
    for failure in tally.failures[:_SHOWN_FAILURES]:
        typer.secho(f"{failure.place}: {failure.problem['detail']}", err=True, fg="yellow")
    message = f"{failures} cannot be written: {why}; name another file with --failures"
    typer.secho(message, err=True, fg="red")
