"""All indexes of a namespace, a line each."""

from datetime import datetime

from rich.table import Table
from rich.text import Text

from visualindex_operator.kubectl.ages import age
from visualindex_operator.kubectl.cluster import Object
from visualindex_operator.kubectl.surroundings import cluster_of, status_of


def overview(indexes: list[Object], now: datetime, *, with_namespace: bool) -> Table:
    """Name, readiness, images, generation, recall, cluster, change and age of every index."""
    columns = ("name", "ready", "reason", "images", "generation", "recall", "cluster", "change", "age")
    table = Table(*(("namespace",) if with_namespace else ()), *columns, box=None, pad_edge=False)
    for index in indexes:
        namespace = (index["metadata"]["namespace"],) if with_namespace else ()
        table.add_row(*namespace, *_row(index, now))
    return table


def _row(index: Object, now: datetime) -> tuple[str | Text, ...]:
    status = status_of(index)
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    state = ready.status if ready else "Unknown"
    plan = status.plan
    return (
        index["metadata"]["name"],
        Text(state, {"True": "green", "False": "red"}.get(state, "yellow")),
        ready.reason if ready else "",
        "" if status.images is None else f"{status.images:,}",
        status.generation.id if status.generation else "",
        status.generation.recall if status.generation else "",
        Text(cluster_of(index)),
        f"{plan.change} {plan.state}" if plan else "",
        age(index["metadata"].get("creationTimestamp"), now),
    )
