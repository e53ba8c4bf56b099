"""`kubectl visualindex plan` and `approve`: what a change will cause, and letting it happen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visualindex_operator.kubectl.options import Context, Name, Namespace

if TYPE_CHECKING:
    from visualindex.spec.status import Plan
    from visualindex_operator.kubectl.cluster import Cluster, Object


def plan(
    name: Name,
    file: Annotated[
        Path | None,
        typer.Option("--filename", "-f", help="Show what applying this file would cause; nothing is sent."),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show the change that is under way or waits, and the command that approves it."""
    from visualindex_operator.kubectl.cluster import ask
    from visualindex_operator.kubectl.planned import approval
    from visualindex_operator.kubectl.proposal import proposed
    from visualindex_operator.kubectl.surroundings import read_index, status_of

    index = ask(lambda cluster: read_index(cluster, name), context, namespace)
    found = proposed(index, file) if file else status_of(index).plan
    if found is None:
        typer.echo(f"{file} changes nothing" if file else f"no change of {name} is under way or waits")
        return
    _print(found)
    if file is None:
        typer.echo(f"\n{approval(found, name, index['metadata']['namespace'])}")


def approve(
    name: Name,
    namespace: Namespace = None,
    context: Context = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show the change that waits, ask, and approve it."""
    from visualindex_operator.kubectl.cluster import ask
    from visualindex_operator.kubectl.surroundings import read_index, status_of

    index = ask(lambda cluster: read_index(cluster, name), context, namespace)
    found = status_of(index).plan
    if found is None or found.state in ("Pending", "Proceeding"):
        typer.echo(f"nothing of {name} waits for approval")
        return
    _print(found)
    if not yes:
        typer.confirm(f"\napprove change {found.id} of {name}?", abort=True)
    ask(lambda cluster: _annotate(cluster, index, found.id), context, index["metadata"]["namespace"])
    typer.echo(f"change {found.id} of {name} is approved")


async def _annotate(cluster: "Cluster", index: "Object", change: str) -> None:
    """Approve; the version read before goes along, so that a spec that changed since is not approved unseen."""
    from visualindex.errors import ProblemError, ProblemType
    from visualindex_operator import names
    from visualindex_operator.kubectl import paths
    from visualindex_operator.kubectl.surroundings import read_index, status_of

    name = index["metadata"]["name"]
    current = await read_index(cluster, name)
    plan = status_of(current).plan
    if plan is None or plan.id != change:
        detail = f"the planned change of {name} is another by now: look at it with `kubectl visualindex plan {name}`"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    metadata = {"annotations": {names.APPROVE: change}}
    await cluster.merge(paths.index(cluster.namespace, name), f"VisualIndex {name}", {"metadata": metadata})


def _print(found: "Plan") -> None:
    from visualindex_operator.kubectl.planned import plan_lines
    from visualindex_operator.kubectl.printing import show

    show(plan_lines(found))
