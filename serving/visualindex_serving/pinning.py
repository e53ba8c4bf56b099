"""The generation that `spec.generation` names is the one to be served: it is asked for until it is, and people are told
why it is not."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from visualindex.catalog import Catalog, GenerationRecord
from visualindex.errors import ProblemError, ProblemType

logger = logging.getLogger(__name__)

_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 600.0


@dataclass
class _Trying:
    """When one that could not be activated is asked for again."""

    generation: str
    not_before: float
    pause_s: float

    def is_due(self, now: float) -> bool:
        """Whether now is the time; then the next pause is twice as long."""
        if now < self.not_before:
            return False
        self.pause_s = min(2 * self.pause_s, _LONGEST_PAUSE_S)
        self.not_before = now + self.pause_s
        return True


class Pinning:
    """Remembers what was said, and when what failed is tried again."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._clock = clock
        self._said: dict[str, str] = {}
        self._trying: dict[str, _Trying] = {}

    async def hold(self, index: str, generation: str) -> None:
        """Ask for a generation unless it is active, or about to be, and no other is wanted. Raises ProblemError."""
        wanted = {record.state: record.generation for record in await self._catalog.loaded_generations(index)}
        if wanted.get("preparing", wanted.get("active")) == generation:
            if "preparing" not in wanted:
                self._said.pop(index, None)
                self._trying.pop(index, None)
            return
        try:
            await self._ask(index, await self._catalog.get_generation(index, generation))
        except ProblemError as problem:
            if problem.type not in (ProblemType.NOT_FOUND, ProblemType.CONFLICT):
                raise
            self._say(index, generation, problem.detail)

    async def _ask(self, index: str, record: GenerationRecord) -> None:
        failed = record.state == "failed" or (record.state == "kept" and record.problem is not None)
        if failed:
            self._say(index, record.generation, record.problem or "it failed")
            if not self._is_due(index, record.generation):
                return
        # By force: a person wrote its name.
        await self._catalog.prepare_generation(index, record.generation, force=True)

    def _is_due(self, index: str, generation: str) -> bool:
        now, trying = self._clock(), self._trying.get(index)
        if trying is None or trying.generation != generation:
            self._trying[index] = _Trying(generation, now + _PAUSE_S, _PAUSE_S)
            return False
        return trying.is_due(now)

    def _say(self, index: str, generation: str, problem: str) -> None:
        """Once, until it is another problem or none."""
        said = f"{generation}: {problem}"
        if self._said.get(index) != said:
            self._said[index] = said
            logger.warning(
                "spec.generation of index %s names %s, which is not served: %s; name another one or remove the field",
                *(index, generation, problem),
            )
