"""Threads whose work may wait for everything else."""

import os
import threading

_LOWEST = 19


def yield_to_others() -> None:
    """Give this thread alone the lowest priority (Linux)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
