"""The encoders of one index that a gateway holds: the one that its spec names, and others that the index is served with.

Which those are is the catalog's word, looked at every second: a gateway that was started before the spec changed takes
the new encoder up by itself, and lets go of one that nothing needs any more.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from visualindex.catalog import Catalog, EncoderRecord, IndexRecord
from visualindex.encoders import EncoderConfigError
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.served_encoder import named
from visualindex_serving.encoder_in_use import EncoderInUse, in_words
from visualindex_serving.ending import ended

logger = logging.getLogger(__name__)

OpenOther = Callable[[Mapping[str, Any]], Awaitable[EncoderInUse]]
"""Opens an encoder by its settings. Raises EncoderConfigError and ProblemError."""

_LOOK_S = 1.0
_LEASE_S = 20.0
_RENEW_S = 5.0
_AGAIN_S = 10.0
_TRIES = 3
_PATIENCE_S = 60.0
"""For a deployment that may only be starting as well."""
_CANNOT = (EncoderConfigError, ProblemError, ValidationError, KeyError, OSError)


class HeldEncoders:
    """Opens and closes encoders in the background, and says in the catalog which ones this gateway has."""

    def __init__(
        self,
        catalog: Catalog,
        index: str,
        own: EncoderInUse,
        settings: Mapping[str, Any],
        open_other: OpenOther,
        *,
        quiet_s: float,
    ) -> None:
        """`settings` load `own` again. What is let go of is closed after `quiet_s` seconds: searches may still use it."""
        self._catalog = catalog
        self._index = index
        self._own = own
        self._settings = settings
        self._open_other = open_other
        self._quiet_s = quiet_s
        self._gateway = uuid4().hex[:12]
        self._held: dict[str, EncoderInUse] = {own.fingerprint: own}
        self._told: set[str] = set()
        self._told_at = -_RENEW_S
        self._writes: set[int] = set()
        self._numbers = itertools.count()
        self._older: dict[str, set[int]] = {own.fingerprint: set()}
        self._tried: dict[str, int] = {}
        self._tried_at: dict[str, float] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._begun = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self.records: Sequence[EncoderRecord] = ()
        """What the catalog said last."""

    async def start(self) -> IndexRecord:
        """Enter the spec's encoder, open what else the index is served with, and go on in the background.

        Raises ProblemError UNAVAILABLE when the encoder that searches need cannot be had.
        """
        record = await self._enter(adopt=True)
        await self._tell()
        for one in await self._catalog.index_encoders(self._index):
            if one.state == "required" or one.searched:
                await self._open_at_start(one)
        await self.refresh()
        self._tasks = [
            asyncio.create_task(self._look(), name=f"encoders of {self._index}"),
            asyncio.create_task(self._beat(), name=f"lease for {self._index}"),
        ]
        return record

    async def close(self) -> None:
        """Stop, and close everything."""
        await ended([*self._closing, *self._tasks])
        try:
            await self._catalog.release_gateway(self._index, self._gateway)
        except ProblemError as problem:
            logger.info("the lease of gateway %s runs out by itself: %s", self._gateway, problem.detail)
        for one in self._held.values():
            await one.close()

    @property
    def own(self) -> EncoderInUse:
        """The one that the spec names."""
        return self._own

    @property
    def held(self) -> list[EncoderInUse]:
        """All of them, the spec's first."""
        return list(self._held.values())

    @property
    def outdated(self) -> bool:
        """Whether the spec of another gateway names an encoder that came after this one's: it is about to be replaced."""
        names = [one.fingerprint for one in self.records if one.named]
        return bool(names) and names[-1] != self._own.fingerprint

    def of(self, fingerprint: str) -> EncoderInUse:
        """The encoder of those vectors. Raises ProblemError UNAVAILABLE for one that this gateway does not hold."""
        found = self._held.get(fingerprint)
        if found is None:
            detail = f"Encoder {fingerprint} of index {self._index} is not loaded in this gateway; try again."
            raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)
        return found

    @contextlib.contextmanager
    def writing(self) -> Iterator[list[EncoderInUse]]:
        """The encoders that a write is to be encoded with, for as long as it takes."""
        number = next(self._numbers)
        self._writes.add(number)
        try:
            yield self.held
        finally:
            self._writes.discard(number)

    async def refresh(self) -> None:
        """Look now: open what is missing, let go of what is not needed, say what is held. Raises ProblemError."""
        async with self._lock:
            await self._refresh()

    async def _refresh(self) -> None:
        self.records = await self._catalog.index_encoders(self._index)
        states = {one.fingerprint: one.state for one in self.records}
        if states.get(self._own.fingerprint, "leaving") == "leaving":  # this gateway was thought dead
            await self._enter(adopt=False)
            self._told_at = -_RENEW_S
        for one in self.records:
            if one.state != "leaving" and one.fingerprint not in self._held:
                await self._open(one)
        for fingerprint in self._held.keys() - {self._own.fingerprint}:
            if states.get(fingerprint, "leaving") == "leaving":
                self._let_go(fingerprint)
        await self._tell()

    async def _enter(self, *, adopt: bool) -> IndexRecord:
        own = self._own
        named = own.fingerprint, own.dimension, self._settings
        return await self._catalog.enter_encoder(self._index, *named, adopt=adopt)

    async def _open_at_start(self, one: EncoderRecord) -> None:
        """What searches need must be there, and what writes need has to be tried, or given up for all."""
        if one.fingerprint in self._held:
            return
        try:
            self._take(one.fingerprint, await self._open_other(one.settings))
        except _CANNOT as error:
            away = isinstance(error, ProblemError) and error.type is ProblemType.UNAVAILABLE
            if away and (one.searched or time.monotonic() - self._begun < _PATIENCE_S):
                raise
            if not one.searched:
                await self._give_up(one, error)
                return
            detail = (
                f"index {self._index} is searched with encoder {one.fingerprint} ({named(one.settings)}), which "
                f"cannot be loaded: {in_words(error)}. Put its files back; until the index has moved to the encoder of the "
                "spec, searches need both"
            )
            raise ProblemError(ProblemType.INTERNAL, detail) from error

    async def _open(self, one: EncoderRecord) -> None:
        fingerprint = one.fingerprint
        if time.monotonic() - self._tried_at.get(fingerprint, -_AGAIN_S) < _AGAIN_S:
            return
        try:
            self._take(fingerprint, await self._open_other(one.settings))
        except _CANNOT as error:
            self._tried_at[fingerprint] = time.monotonic()
            self._tried[fingerprint] = self._tried.get(fingerprint, 0) + 1
            logger.warning("encoder %s of index %s: %s", fingerprint, self._index, in_words(error))
            if self._tried[fingerprint] >= _TRIES:
                await self._give_up(one, error)

    async def _give_up(self, one: EncoderRecord, error: Exception) -> None:
        """Searches do not need it: writes go on without it, and there is no going back to what it made."""
        self._tried_at[one.fingerprint] = time.monotonic()
        await self._catalog.give_up_encoder(self._index, one.fingerprint, in_words(error))

    def _take(self, fingerprint: str, opened: EncoderInUse) -> None:
        if opened.fingerprint != fingerprint:
            detail = (
                f"what its settings load is encoder {opened.fingerprint}, not {fingerprint}: its files were changed; put "
                "those of before back"
            )
            self._close_later(opened)
            raise EncoderConfigError(detail)
        self._held[fingerprint] = opened
        self._older[fingerprint] = set(self._writes)
        self._tried.pop(fingerprint, None)
        logger.info("index %s is served with encoder %s as well", self._index, fingerprint)

    def _let_go(self, fingerprint: str) -> None:
        logger.info("encoder %s of index %s is not needed any more", fingerprint, self._index)
        self._older.pop(fingerprint, None)
        self._close_later(self._held.pop(fingerprint))

    def _close_later(self, one: EncoderInUse) -> None:
        async def close() -> None:
            await asyncio.sleep(self._quiet_s)
            await one.close()

        task = asyncio.create_task(close(), name=f"close encoder {one.fingerprint}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _tell(self) -> None:
        """An encoder is told of once every write that began without it has ended: from then on no write lacks it."""
        ready = {name for name in self._held if not self._older[name] & self._writes}
        if ready == self._told and time.monotonic() - self._told_at < _RENEW_S:
            return
        names = self._own.fingerprint
        await self._catalog.hold_encoders(self._index, self._gateway, names, ready, _LEASE_S)
        self._told, self._told_at = ready, time.monotonic()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.refresh()
            except ProblemError as problem:
                logger.warning("the encoders of index %s cannot be read: %s", self._index, problem.detail)

    async def _beat(self) -> None:
        """Loading a model may take longer than a lease."""
        while True:
            await asyncio.sleep(_RENEW_S)
            with contextlib.suppress(ProblemError):  # whoever looks says so
                await self._tell()
