"""Generations as people and programs read them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import typer
from rich.table import Table
from rich.text import Text

from visualindex.api.generations import GenerationView
from visualindex.spec.quantities import format_bytes
from visualindex_operator.kubectl.ages import age
from visualindex_operator.kubectl.options import Output
from visualindex_operator.kubectl.printing import show

_COLOURS = {"active": "green", "preparing": "yellow", "failed": "red"}


def show_all(found: Sequence[GenerationView], output: Output | None) -> None:
    """Print them, a line each."""
    if output is Output.JSON:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
    elif not found:
        typer.echo("no generation yet: shards index the images as they come (--build makes one)", err=True)
    else:
        show([table(found, datetime.now(UTC))])


def table(found: Sequence[GenerationView], now: datetime) -> Table:
    """State, recall, size and ages of each."""
    columns = (
        "generation",
        "state",
        "recall@10",
        "gate",
        "images",
        "shards",
        "family",
        "bytes",
        "built",
        "activated",
        "problem",
    )
    whole = Table(*columns, box=None, pad_edge=False)
    for one in found:
        whole.add_row(
            one.generation,
            Text(one.state, _COLOURS.get(one.state, "")),
            _recall(one),
            _verdict(one),
            f"{one.images:,}",
            str(one.shards),
            ", ".join(one.families),
            format_bytes(one.bytes),
            age(one.created_at.isoformat(), now),
            "" if one.activated_at is None else age(one.activated_at.isoformat(), now),
            Text(one.problem or ""),
        )
    return whole


def served(one: GenerationView) -> str:
    """What came of an activation."""
    if one.state == "active":
        return f"generation {one.generation} is served"
    return f"generation {one.generation} is {one.state}: it is served as soon as every shard has loaded it"


def _verdict(one: GenerationView) -> Text:
    if one.gate is None:
        return Text("")
    return Text(one.gate.verdict, "red" if one.gate.failures else "")


def _recall(one: GenerationView) -> Text:
    measured = one.recall.get("recall")
    if measured is None:
        return Text("")
    met = one.recall.get("met", True)
    return Text(f"{measured:.3f}" + ("" if met else f" of {one.recall.get('target')}"), "" if met else "red")
