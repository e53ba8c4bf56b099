"""What the operator tells Prometheus of itself."""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from visualindex.spec.status import ConditionType

RECONCILES = Counter("visualindex_operator_reconciles_total", "Looks at a group, by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram(
    "visualindex_operator_reconcile_seconds",
    "Time of one look at a group.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
WRITES = Counter("visualindex_operator_writes_total", "Writes to the API server.", ["verb", "kind"])
CONDITIONS = Gauge(
    "visualindex_operator_condition",
    "Conditions of indexes: 1 true, 0 false, -1 unknown.",
    ["namespace", "index", "type"],
)
ACTIONS = Counter("visualindex_operator_actions_total", "Planned actions that were carried out.", ["action"])


def forget(namespace: str, index: str) -> None:
    """Drop the gauges of an index that is gone."""
    for type_ in get_args(ConditionType):
        CONDITIONS.remove(namespace, index, type_)
