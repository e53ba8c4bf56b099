"""Rows of engines as a Markdown table, and what was wrong with those that have none."""

import math
from collections.abc import Sequence
from typing import Any

HEAD = (
    "engine",
    "version",
    "measured",
    "build s",
    "memory MB",
    "disk MB",
    "effort",
    "recall@10",
    "searches/s",
    "p50 ms",
    "p99 ms",
    "filtered recall",
    "filtered/s",
    "filtered p50 ms",
    "insert p50 / p99 ms",
    "visible p50 / p99 ms",
    "to its writer p50 / p99 ms",
    "delete ms",
    "client CPU",
    "load",
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The measured rows, `measure.Row` as dictionaries, in the order given, and a note on each."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows if "error" not in row]
    notes = [
        f"- {row['name']}: {row['note'] if 'error' not in row else 'not measured: ' + row['error']}"
        for row in rows
    ]
    return "\n".join([*lines, "", *notes])


def _cells(row: dict[str, Any]) -> list[str]:
    plain, filtered = row["plain"], row["filtered"]
    lost = f", {row['resurrected']} came back" if row["resurrected"] else ""
    return [
        row["name"],
        row["version"],
        row["how"],
        f"{row['build_s']:.1f}",
        f"{row['memory_mb']:.0f}",
        f"{row['disk_mb']:.0f}",
        str(plain["effort"]),
        f"{plain['recall']:.3f}",
        f"{plain['per_second']:,.0f}",
        f"{plain['p50_ms']:.2f}",
        f"{plain['p99_ms']:.2f}",
        *_filtered(filtered),
        _pair(row["insert_ms"]),
        _pair(row["visible_ms"]),
        "the same" if row["own_ms"] is None else _pair(row["own_ms"]),
        f"{row['delete_ms']:.2f}{lost}",
        "in process" if row["client_cpu"] is None else f"{100 * row['client_cpu']:.0f} %",
        f"{row['load_average']:.1f}",
    ]


def _filtered(rates: dict[str, Any] | None) -> list[str]:
    if rates is None:
        return ["cannot", "cannot", "cannot"]
    return [f"{rates['recall']:.3f}", f"{rates['per_second']:,.0f}", f"{rates['p50_ms']:.2f}"]


def _pair(pair: Sequence[float]) -> str:
    """Two times in ms; what took for ever did not come to pass."""
    return " / ".join("never" if math.isinf(one) else f"{one:.2f}" for one in pair)
