"""Tells the log how far a long transfer is: at its tenths, and not more often than every few seconds."""

import logging
import time

logger = logging.getLogger(__name__)

_EVERY_S = 5.0


class Progress:
    """Called with the bytes that are done and those there are."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said_at = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Note it, when it is worth a line."""
        now = time.monotonic()
        if done < total and now - self._said_at < _EVERY_S:
            return
        self._said_at = now
        share = 100 * done / max(1, total)
        logger.info("%s: %.0f %% of %.1f MiB fetched", self._what, share, total / 2**20)
