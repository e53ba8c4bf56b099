"""A planned change as a person reads it: what it does, what it takes, and how to let it happen."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from visualindex.spec.status import Footprint, Plan

_SIZES = ("pods", "replicas", "cpus", "memory", "gpus")
CHANGES = {
    "Create": "the index is made",
    "InPlace": "within the running cluster",
    "NewCluster": "a second cluster starts, then takes over",
    "Recreate": "the cluster ends and starts again: an outage",
    "Reindex": "all images must be encoded again",
    "Suspend": "everything that runs ends, data stays",
    "Resume": "what was suspended starts again",
}


def plan_lines(plan: Plan) -> Iterator[RenderableType]:
    """The change, its footprint before, during and after, and its summary."""
    title = f"{plan.change}: {CHANGES.get(plan.change, '')}"
    yield Text(title, "bold")
    for line in plan.summary:
        yield Text(f"  {line}")
    yield Text()
    yield _footprints(plan)


def approval(plan: Plan, name: str, namespace: str) -> str:
    """How far the change is, with the command that approves it where it waits."""
    if plan.state == "Proceeding":
        return f"Change {plan.id} is being carried out."
    if plan.state == "Pending":
        return f"Change {plan.id} needs no approval; it waits for what its summary and the conditions name."
    why = "waits for approval" if plan.state == "Waiting" else "is blocked by the GPU budget"
    return f"Change {plan.id} {why}: kubectl visualindex approve {name} -n {namespace}"


def _footprints(plan: Plan) -> Table:
    table = Table("", "before", "during", "after", box=None, pad_edge=False, header_style="dim")
    for size in _SIZES:
        table.add_row(size, *(_shown(side, size) for side in (plan.before, plan.during, plan.after)))
    return table


def _shown(side: Footprint, size: str) -> str:
    return str(getattr(side, size))
