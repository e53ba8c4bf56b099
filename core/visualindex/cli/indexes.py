"""`visualindex index`: how an index is doing, and its generations: build, compare, activate, roll back, discard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visualindex.cli import ids
from visualindex.cli.answers import AsJson, print_all, raise_failed, tell_joined
from visualindex.cli.connection import DEFAULT_SERVICE, ApiKey, Name, ServiceUrl, connected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from visualindex.api.checks import CheckView
    from visualindex.api.generations import GenerationView, JobView

indexes = typer.Typer(
    no_args_is_help=True, help="Indexes: how they do, their generations, activation, rollback."
)

NOT_YET = 4
"""Exit code when time was up before a generation was active; it becomes so by itself."""

Generation = Annotated[
    str,
    typer.Argument(
        parser=ids.generation,
        help="The generation, from `index generations`.",
        show_default=False,
    ),
]
Within = Annotated[
    float, typer.Option("--within", min=0, max=600, help="Longest wait in seconds for the shards to load it.")
]


@indexes.command("list")
def list_(service: ServiceUrl = DEFAULT_SERVICE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the indexes that the key allows."""
    from visualindex.cli.index_pages import overview

    with connected(service, api_key) as client:
        views = client.list_indexes()
    print_all(views, overview, as_json)


@indexes.command()
def show(
    name: Name,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also write the recall curve as an SVG picture; one file per shard if several."),
    ] = None,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show an index: what it serves, its shards and replicas, and its recall with the curve it was chosen from."""
    from visualindex.cli.index_pages import page

    with connected(service, api_key) as client:
        view = client.get_index(name)
    if as_json:
        typer.echo(view.model_dump_json(indent=2))
    else:
        typer.echo(page(view))
    if plot is not None:
        for path in _write_plots(plot, name, [] if view.recall is None else view.recall.curves):
            typer.echo(f"plot: {path}", err=as_json)


@indexes.command()
def generations(
    name: Name, service: ServiceUrl = DEFAULT_SERVICE, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List the generations of an index, the newest first."""
    from visualindex.cli.index_pages import generation_table

    with connected(service, api_key) as client:
        views = client.list_generations(name)
    print_all(views, generation_table, as_json)


@indexes.command()
def build(
    name: Name,
    activate: Annotated[
        bool, typer.Option("--activate", help="Activate it when it is built and reaches the recall wanted.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end of the job, and show how far it is.")
    ] = False,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Build a generation of everything the index has now, in the background."""
    from visualindex.cli.watching import watch

    with connected(service, api_key) as client:
        job = client.build_generation(name, activate=activate)
        tell_joined(job, activate)
        if wait:
            job = watch(client, name, job, quiet=as_json)
    _print_job(job, as_json)
    raise_failed(job, name)


@indexes.command()
def compare(
    name: Name,
    generation: Generation,
    other: Annotated[
        str,
        typer.Argument(
            parser=ids.generation,
            help="The generation to compare it with.",
            show_default=False,
        ),
    ],
    again: Annotated[
        bool, typer.Option("--again", help="Measure again, though both were compared before.")
    ] = False,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show how a generation fares beside another, and which searches get worse by it; measured now if it was not before."""
    from visualindex.cli.comparing import measured
    from visualindex.cli.gate_page import page

    with connected(service, api_key) as client:
        report = measured(client, name, generation, other, again=again, quiet=as_json)
    typer.echo(report.model_dump_json(indent=2) if as_json else page(report))


@indexes.command()
def shadow(
    name: Name,
    generation: Generation,
    share: Annotated[
        float | None, typer.Option(min=0.001, max=1, help="Share of the searches that is asked of both.")
    ] = None,
    queries: Annotated[int | None, typer.Option(min=10, max=10_000, help="Searches that are enough.")] = None,
    minutes: Annotated[
        int | None, typer.Option(min=1, max=10_080, help="Longest wait for them in minutes.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end, and show how the candidate answered.")
    ] = False,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Have a candidate answer a share of the live searches beside the active generation. Users see nothing of it."""
    from visualindex.api.gate import ShadowReport
    from visualindex.api.generations import ShadowRequest
    from visualindex.cli.gate_page import shadow_page
    from visualindex.cli.watching import watch

    given = {"share": share, "min_queries": queries, "for_minutes": minutes}
    asked = ShadowRequest.model_validate({name: one for name, one in given.items() if one is not None})
    with connected(service, api_key) as client:
        job = client.shadow_generation(name, generation, asked)
        if wait:
            job = watch(client, name, job, quiet=as_json)
    if as_json or job.result is None:
        _print_job(job, as_json)
    else:
        typer.echo(shadow_page(ShadowReport.model_validate(job.result)))
    raise_failed(job, name)


@indexes.command()
def activate(
    name: Name,
    generation: Generation,
    force: Annotated[
        bool, typer.Option("--force", help="Though the quality gate refused it, or has not judged it.")
    ] = False,
    within: Within = 30.0,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Serve a generation as soon as every shard has loaded it. Exit code 4 when that is not yet so."""
    with connected(service, api_key) as client:
        view = client.activate_generation(name, generation, wait_s=within, force=force)
    _print_activation(view, as_json)


@indexes.command()
def rollback(
    name: Name,
    within: Within = 30.0,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Serve the generation again that was active before. No write is lost."""
    with connected(service, api_key) as client:
        view = client.roll_back(name, wait_s=within)
    _print_activation(view, as_json)


@indexes.command()
def discard(
    name: Name, generation: Generation, service: ServiceUrl = DEFAULT_SERVICE, api_key: ApiKey = None
) -> None:
    """Discard a generation that is not active; its files are deleted soon after."""
    with connected(service, api_key) as client:
        client.discard_generation(name, generation)
    typer.echo(f"discarded {generation}")


@indexes.command()
def check(
    name: Name,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs.")] = False,
    vectors: Annotated[
        bool,
        typer.Option(help="Compare vectors too, which reads all of them; without, ids and versions alone."),
    ] = True,
    originals: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of originals and of generations' parts to read and compare with their digests.",
        ),
    ] = 0.01,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end of the check, and show what it found.")
    ] = False,
    last: Annotated[bool, typer.Option("--last", help="Show what the last check found; begin none.")] = False,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Compare database, object store, generations and replicas. Exit code 1 when faults are left, with --wait or --last."""
    from visualindex.cli.watching import watch

    with connected(service, api_key) as client:
        if not last:
            job = client.check_index(name, repair=repair, vectors=vectors, originals_share=originals)
            if not wait:
                return _print_job(job, as_json)
            raise_failed(watch(client, name, job, quiet=as_json), name)
        view = client.last_check(name)
    return _print_check(view, as_json)


@indexes.command()
def schedules(
    name: Name, service: ServiceUrl = DEFAULT_SERVICE, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List the schedules of an index: when each is due, and what became of its last times."""
    from visualindex.cli.index_pages import schedule_table

    with connected(service, api_key) as client:
        views = client.list_schedules(name)
    print_all(views, schedule_table, as_json)


def _print_job(job: "JobView", as_json: bool) -> None:
    from visualindex.cli.index_pages import job_line

    typer.echo(job.model_dump_json(indent=2) if as_json else job_line(job))


def _print_check(view: "CheckView", as_json: bool) -> None:
    from visualindex.cli.index_pages import check_page

    typer.echo(view.model_dump_json(indent=2) if as_json else check_page(view))
    if not view.consistent:
        raise typer.Exit(1)


def _print_activation(view: "GenerationView", as_json: bool) -> None:
    active = view.state == "active"
    if as_json:
        typer.echo(view.model_dump_json(indent=2))
    elif active:
        typer.echo(
            f"{view.generation} is active: {view.images} images, recall {view.recall.get('recall', 1.0):.3f}"
        )
    else:
        typer.echo(f"{view.generation} is {view.state}: shards load it, and it becomes active by itself")
    if not active:
        raise typer.Exit(NOT_YET)


def _write_plots(path: Path, name: str, curves: "Sequence[dict[str, object]]") -> list[Path]:
    """One picture, or with several shards one for each: `curve-0.svg`, `curve-1.svg`."""
    from visualindex.cli.recall_plot import as_svg, read_curve
    from visualindex.errors import ProblemError, ProblemType

    if not curves:
        detail = f"index {name} has no recall curve: it serves no generation yet; `visualindex index build` makes one"
        raise ProblemError(ProblemType.CONFLICT, detail)
    written = []
    for number, document in enumerate(curves):
        one = path if len(curves) == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        title = f"{name}, shard {number}: {document.get('family')}"
        try:
            one.write_text(as_svg(read_curve(document), title), encoding="utf-8")
        except OSError as error:
            detail = f"the plot {one} cannot be written: {error.strerror or error}"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None
        written.append(one)
    return written
