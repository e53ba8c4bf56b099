"""`kubectl visualindex status`: how the indexes are, or everything about one of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visualindex_operator.kubectl.options import Context, Namespace, Output

if TYPE_CHECKING:
    from visualindex_operator.kubectl.cluster import Cluster, Object
    from visualindex_operator.kubectl.surroundings import Surroundings

_REFRESH_S = 2.0


def status(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of the VisualIndex; without it all are listed.", show_default=False),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    every: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List those of all namespaces.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on, and print what changes, until Ctrl-C.")
    ] = False,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="Print JSON.")] = None,
) -> None:
    """Show whether an index answers and, if not, what it waits for; without NAME, list all.

    Exit code 0: it is ready, or the list was printed; 1: it is not ready.
    """
    from visualindex_operator.kubectl.cluster import ask

    if name:
        ready = ask(lambda cluster: _one(cluster, name, output, watch), context, namespace)
        if not ready:
            raise typer.Exit(1)
    else:
        ask(
            lambda cluster: _all(cluster, None if every else cluster.namespace, output, watch),
            context,
            namespace,
        )


async def _one(cluster: "Cluster", name: str, output: Output | None, watch: bool) -> bool:
    from visualindex_operator.kubectl.surroundings import surroundings
    from visualindex_operator.kubectl.waiting import waits_for

    found = await surroundings(cluster, name)
    shown = ""
    async for _ in _rounds(watch):
        found = await surroundings(cluster, name) if shown else found
        state = json.dumps(document(found))
        if state != shown:
            _print_one(found, output)
        shown = state
    return waits_for(found) is None


def _print_one(found: "Surroundings", output: Output | None) -> None:
    from datetime import UTC, datetime

    from visualindex_operator.kubectl.account import account
    from visualindex_operator.kubectl.printing import show

    if output is Output.JSON:
        typer.echo(json.dumps(document(found), indent=2))
        return
    show(account(found, datetime.now(UTC)))


def document(found: "Surroundings") -> dict[str, Any]:
    """What the account is made of, for programs; unlike `kubectl get -o json`, with the children and what is missing."""
    from visualindex_operator.kubectl.waiting import waits_for

    return {
        "name": found.name,
        "namespace": found.namespace,
        "waitsFor": waits_for(found),
        "status": found.index.get("status") or {},
        "rayService": found.ray_service,
        "rayClusters": found.ray_clusters,
        "pods": found.pods,
        "jobs": found.jobs,
        "networkPolicies": found.network_policies,
        "podDisruptionBudgets": found.disruption_budgets,
        "events": found.events,
        "unreadable": found.unreadable,
    }


async def _all(cluster: "Cluster", namespace: str | None, output: Output | None, watch: bool) -> None:
    from visualindex_operator.kubectl import paths

    shown: list[Object] | None = None
    async for _ in _rounds(watch):
        indexes = await cluster.items(paths.indexes(namespace), "the VisualIndex resources")
        if indexes != shown:
            _print_all(indexes, namespace, output)
        shown = indexes


def _print_all(indexes: "list[Object]", namespace: str | None, output: Output | None) -> None:
    from datetime import UTC, datetime

    from visualindex_operator.kubectl.overview import overview
    from visualindex_operator.kubectl.printing import show

    if output is Output.JSON:
        typer.echo(json.dumps(indexes, indent=2))
    elif not indexes:
        where = f"in namespace {namespace} (-A lists those of all)" if namespace else "in this cluster"
        typer.echo(f"no VisualIndex {where}", err=True)
    else:
        show([overview(indexes, datetime.now(UTC), with_namespace=namespace is None)])


async def _rounds(watch: bool) -> AsyncIterator[None]:
    yield
    while watch:
        await asyncio.sleep(_REFRESH_S)
        yield
