"""An event loop in a thread of its own, for processes whose calls come from threads."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for callers in any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Blocks."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
