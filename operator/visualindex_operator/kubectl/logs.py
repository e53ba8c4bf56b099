"""`kubectl visualindex logs`: what the parts of an index write, wherever they run."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from visualindex_operator.kubectl.options import Context, Name, Namespace

if TYPE_CHECKING:
    from visualindex_operator.kubectl.cluster import Cluster, Object
    from visualindex_operator.kubectl.log_streams import Source, Wanted

_LOOK_AGAIN_S = 3.0
T = TypeVar("T")


def logs(
    name: Name,
    part: Annotated[
        str | None,
        typer.Option(
            help="`gateway`, `shard`, `encoder`, `head`, `worker` or `operator`; default: gateways, shards and encoders."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, also with new pods.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option(min=0, help="Only the last lines of each replica; default: all.", show_default=False),
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="Those of replicas or containers that have ended.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print logs, each line with its pod and replica."""
    from visualindex_operator.kubectl.cluster import ask
    from visualindex_operator.kubectl.log_streams import Wanted
    from visualindex_operator.kubectl.replica_logs import Part

    if part is not None and part not in list(Part):
        raise typer.BadParameter(f"{part} is none of {', '.join(Part)}", param_hint="--part")
    if follow and previous:
        raise typer.BadParameter("what has ended cannot be followed: leave out one", param_hint="--previous")
    wanted = Wanted(Part(part) if part else None, tail, follow, previous)
    ask(lambda cluster: _logs(cluster, name, wanted), context, namespace)


async def _logs(cluster: "Cluster", name: str, wanted: "Wanted") -> None:
    from visualindex_operator.kubectl.log_streams import sources
    from visualindex_operator.kubectl.surroundings import read_index

    index = await read_index(cluster, name)
    found = await sources(cluster, index, wanted)
    if not found:
        typer.echo(_nothing(name, wanted), err=True)
    if wanted.follow:
        await _follow(cluster, index, found, wanted)
    for source in found:
        await _print(cluster, source, wanted)


def _nothing(name: str, wanted: "Wanted") -> str:
    what = "no ended replica" if wanted.previous else "no pod or replica"
    which = f" of part {wanted.part}" if wanted.part else ""
    return f"{name} has {what}{which} with a log: `kubectl visualindex status {name}` shows what runs"


async def _follow(cluster: "Cluster", index: "Object", found: "list[Source]", wanted: "Wanted") -> None:
    """Follow all sources, and those that come later from their first line; until Ctrl-C."""
    from visualindex_operator.kubectl.log_streams import sources

    followed: dict[Source, asyncio.Task[None]] = {}
    while True:
        for source in found:
            if source not in followed:
                followed[source] = asyncio.create_task(_patiently(_print(cluster, source, wanted)))
        await asyncio.sleep(_LOOK_AGAIN_S)
        wanted = replace(wanted, tail=None)
        found = await _patiently(sources(cluster, index, wanted)) or found
        # A place that is gone may come back, as a container that is started again does.
        followed = {source: task for source, task in followed.items() if source in found or not task.done()}


async def _patiently(work: "Awaitable[T]") -> "T | None":
    """What following does not end for: pods come and go."""
    from visualindex.errors import ProblemError

    try:
        return await work
    except ProblemError as problem:
        typer.secho(problem.detail, err=True, fg="yellow")
        return None


async def _print(cluster: "Cluster", source: "Source", wanted: "Wanted") -> None:
    from visualindex_operator.kubectl.log_streams import lines

    prefix = typer.style(source.label, fg="cyan")
    async for line in lines(cluster, source, wanted):
        typer.echo(f"{prefix} {line}")
