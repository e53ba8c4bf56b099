"""Cron expressions in a time zone. Where clocks change they do as Debian's cron does.

A time that the clock skips comes when it has been put forward; one that the clock repeats comes once, unless the hour is a
wildcard: then every hour that passes has it.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS = 5


def checked_cron(expression: str) -> str:
    """The expression itself; ValueError that says what is wrong with it."""
    if len(expression.split()) != _FIELDS:
        raise ValueError(
            f"{expression!r} is no cron expression: write minute, hour, day of month, month and day of week, such as "
            "'0 3 * * *'"
        )
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"{expression!r} is no cron expression: {str(error).lower()}") from error
    return expression


def checked_time_zone(name: str) -> str:
    """The name itself; ValueError when there is no such time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        detail = (
            f"there is no time zone {name!r}: name one of the IANA database, such as Europe/Berlin, or UTC"
        )
        raise ValueError(detail) from error
    return name


def next_time(expression: str, time_zone: str, after: datetime) -> datetime | None:
    """The first time after `after`; None when there is none in the next decades."""
    return next(CronSim(expression, after.astimezone(ZoneInfo(time_zone))), None)


def last_time(expression: str, time_zone: str, until: datetime) -> datetime | None:
    """The last time that is not after `until`; None when there was none in the last decades."""
    local = until.astimezone(ZoneInfo(time_zone))
    # It looks strictly before, by whole minutes: the minute that has just begun counts too.
    minute = local.replace(second=0, microsecond=0)
    if next(CronSim(expression, _a_minute_before(minute)), None) == minute:
        return minute
    return next(CronSim(expression, minute, reverse=True), None)


def _a_minute_before(moment: datetime) -> datetime:
    earlier = moment.astimezone(UTC).timestamp() - 60
    return datetime.fromtimestamp(earlier, moment.tzinfo)
