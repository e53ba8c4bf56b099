"""`kubectl visualindex events`: what happened to an index and to everything made for it, in the order it happened."""

from typing import TYPE_CHECKING, Annotated

import typer

from visualindex_operator.kubectl.options import Context, Name, Namespace

if TYPE_CHECKING:
    from visualindex_operator.kubectl.cluster import Cluster, Object
    from visualindex_operator.kubectl.surroundings import Surroundings


def events(
    name: Name,
    namespace: Namespace = None,
    context: Context = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
) -> None:
    """List the events of an index and its children, the newest last."""
    from visualindex_operator.kubectl.cluster import ask

    ask(lambda cluster: _events(cluster, name, watch), context, namespace)


async def _events(cluster: "Cluster", name: str, watch: bool) -> None:
    from datetime import UTC, datetime

    from visualindex_operator.kubectl import paths
    from visualindex_operator.kubectl.event_lines import event_table
    from visualindex_operator.kubectl.printing import show
    from visualindex_operator.kubectl.surroundings import surroundings

    # Read before the events are: the watch then misses none, and the few that both show are told by their version.
    start = await cluster.get(paths.core(cluster.namespace, "events"), "Events", limit=1) if watch else None
    found = await surroundings(cluster, name)
    if found.unreadable:
        typer.echo("\n".join(f"not shown: {line}" for line in found.unreadable), err=True)
    if found.events:
        show([event_table(found.events, datetime.now(UTC))])
    elif not watch:
        typer.echo(f"no events of {name}; the API server forgets them after an hour", err=True)
    if start:
        await _follow(cluster, found, start["metadata"]["resourceVersion"])


async def _follow(cluster: "Cluster", found: "Surroundings", version: str) -> None:
    from datetime import UTC, datetime

    from visualindex_operator.kubectl import paths
    from visualindex_operator.kubectl.cluster import decoded
    from visualindex_operator.kubectl.event_lines import event_row
    from visualindex_operator.kubectl.surroundings import concerns, surroundings

    path, shown = paths.core(cluster.namespace, "events"), {_mark(event) for event in found.events}
    while True:
        async for line in cluster.lines(path, "Events", watch=True, resourceVersion=version):
            change = decoded(line)
            if change["type"] == "ERROR":  # the version is too old for the server: start anew from now
                version = (await cluster.get(path, "Events", limit=1))["metadata"]["resourceVersion"]
                break
            event = change["object"]
            version = event["metadata"]["resourceVersion"]
            if change["type"] == "DELETED" or _mark(event) in shown:
                continue
            if not concerns(found, event) and _may_concern(found, event):
                found = await surroundings(cluster, found.name)
            if concerns(found, event):
                typer.echo("  ".join(event_row(event, datetime.now(UTC))))


def _may_concern(found: "Surroundings", event: "Object") -> bool:
    """Children are named after the index or its cluster; this may be one that was made since."""
    return str(event["involvedObject"].get("name", "")).startswith((found.name, found.cluster))


def _mark(event: "Object") -> tuple[str, str]:
    return event["metadata"]["uid"], event["metadata"]["resourceVersion"]
