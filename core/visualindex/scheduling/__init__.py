"""When work that is planned ahead is due: cron with time zones, as values, without a clock of its own."""

from visualindex.scheduling.cron import checked_cron, checked_time_zone, next_time
from visualindex.scheduling.due import Due, Schedule, due

__all__ = ["Due", "Schedule", "checked_cron", "checked_time_zone", "due", "next_time"]
