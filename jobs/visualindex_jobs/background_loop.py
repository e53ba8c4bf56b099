"""An event loop in a thread of its own, for processes whose calls come from threads."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for callers in any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Blocks."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def cpu_s(self) -> float:
        """CPU seconds of its thread."""
        assert self._thread.ident is not None  # noqa: S101 - it was started
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))
