"""How many cores this process may use: those of the machine, or fewer where its container has a limit."""

import math
import os
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cores(limit: Path = _LIMIT) -> int:
    """At least one. `limit` is cgroup v2's `cpu.max`: a quota and a period in microseconds, or `max`."""
    machine = os.cpu_count() or 1
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):
        return machine
    return machine if quota == "max" else max(1, min(machine, math.ceil(int(quota) / int(period))))
