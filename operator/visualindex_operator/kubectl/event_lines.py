"""Events as lines: when, how bad, about what, and what was said."""

from datetime import datetime

from rich.table import Table
from rich.text import Text

from visualindex_operator.kubectl.ages import age
from visualindex_operator.kubectl.cluster import Object
from visualindex_operator.kubectl.surroundings import event_time


def event_table(events: list[Object], now: datetime) -> Table:
    """Events under each other, in the order given."""
    table = Table(
        "last seen", "type", "reason", "object", "message", box=None, pad_edge=False, header_style="dim"
    )
    for event in events:
        seen, kind, reason, about, message = event_row(event, now)
        table.add_row(seen, Text(kind, "yellow" if kind == "Warning" else ""), reason, about, Text(message))
    return table


def event_row(event: Object, now: datetime) -> tuple[str, str, str, str, str]:
    """Age, type, reason, object and message of an event; a repeated one says how often."""
    about = event["involvedObject"]
    message = " ".join(str(event.get("message") or event.get("note") or "").split())
    count = int((event.get("series") or {}).get("count") or event.get("count") or 1)
    seen = age(event_time(event), now) + (f" (x{count})" if count > 1 else "")
    name = f"{about.get('kind', '')}/{about.get('name', '')}"
    return seen, str(event.get("type", "")), str(event.get("reason", "")), name, message
