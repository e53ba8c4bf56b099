"""How long ago something was, in the few characters that kubectl takes for it."""

from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def age(since: str | None, now: datetime) -> str:
    """The time since an RFC 3339 moment: `45s`, `12m`, `5h`, `3d`; empty when it is not known."""
    if not since:
        return ""
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
