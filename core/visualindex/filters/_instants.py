"""Points in time as metadata and filters write them: RFC 3339 dates and date-times, seconds since 1970, `now-7d`."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

Span: TypeAlias = tuple[int | None, int | None]
"""From an instant to before another, both in microseconds since 1970-01-01T00:00:00Z; None for no bound."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FIRST_INSTANT = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_INSTANT = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_DAY = 86_400_000_000
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WRITTEN = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?(?:[Zz]|([+-]\d{2}:\d{2}))?", re.ASCII
)
_RELATIVE = re.compile(r"now(?:([+-])(\d{1,9})([smhdw]))?", re.ASCII)
_UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": _DAY, "w": 7 * _DAY}

HOW_TO_WRITE = (
    "write a date (2026-03-01), a date-time (2026-03-01T12:00:00Z) or the seconds since 1970 as a number"
)


def instant(value: Any) -> int | None:
    """A stored value as microseconds since 1970 (UTC, which a date-time without offset is in); None for none.

    A date is its first moment. Fractions beyond microseconds are cut off. Only the years 1 to 9999 are instants.
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = value * 1_000_000 if isinstance(value, int) else math.floor(value * 1_000_000)
    except (OverflowError, ValueError):
        return None
    return found if FIRST_INSTANT <= found <= LAST_INSTANT else None


def moment(operand: Any, now: int) -> Span | None:
    """What an operand stands for: the whole of a day (UTC), or one microsecond; None when it is no time.

    `now` is the instant that `now-7d` counts from.
    """
    relative = _RELATIVE.fullmatch(operand) if isinstance(operand, str) else None
    if relative:
        sign, amount, unit = relative.groups()
        ago = int(amount) * _UNITS[unit] if unit else 0
        at = max(FIRST_INSTANT, min(LAST_INSTANT, now - ago if sign == "-" else now + ago))
        return at, at + 1
    start = instant(operand)
    if start is None:
        return None
    return start, start + (_DAY if isinstance(operand, str) and _DATE.fullmatch(operand) else 1)


def present() -> int:
    """The instant it is."""
    return (datetime.now(UTC) - _EPOCH) // _MICROSECOND


def written(at: int) -> str:
    """An instant as an RFC 3339 date-time in UTC."""
    text = (_EPOCH + at * _MICROSECOND).replace(tzinfo=None).isoformat()
    return text + "Z"


def united(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same instants as ascending spans with gaps between them."""
    found: list[tuple[int, int]] = []
    closed = [
        (FIRST_INSTANT if start is None else start, LAST_INSTANT + 1 if stop is None else stop)
        for start, stop in spans
    ]
    for start, stop in sorted(closed):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return tuple((None if a <= FIRST_INSTANT else a, None if b > LAST_INSTANT else b) for a, b in found)


def _of_text(text: str) -> int | None:
    # Most texts are no times, and most times need no look at their parts.
    if len(text) < 10 or text[4] != "-":
        return None
    found = _DATE.fullmatch(text) or _WRITTEN.fullmatch(text)
    if not found:
        return None
    date, clock, fraction, offset = found.groups() if found.re is _WRITTEN else (text, "00:00:00", "", "")
    leap = clock.endswith(":60")  # RFC 3339 has leap seconds: the same instant as the second that follows
    try:
        read = datetime.fromisoformat(f"{date}T{clock[:-2] + '59' if leap else clock}{offset or '+00:00'}")
    except ValueError:
        return None
    since = read - _EPOCH
    at = (since.days * 86_400 + since.seconds + leap) * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))
    return at if FIRST_INSTANT <= at <= LAST_INSTANT else None
