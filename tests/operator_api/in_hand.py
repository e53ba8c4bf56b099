"""The operator without kopf, one look at a time: kopf's part is played here as far as it writes or remembers."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import kopf
from tests.operator_api.fake_probes import FakeProbes
from tests.operator_api.faults import FaultyClient, Killed
from tests.operator_api.namespace import Namespace, Object
from tests.operator_api.simulation import Controllers
from tests.operator_api.snapshot import Snapshot

from visualindex_operator import names
from visualindex_operator.erasing import Erasure
from visualindex_operator.kube import ApiServer, KubeError
from visualindex_operator.members import group_of, member
from visualindex_operator.reasons import EventReason
from visualindex_operator.reconciler import Reconciler
from visualindex_operator.settings import Settings

SETTINGS = Settings(image="visualindex:test", ray_version="2.60.0")
_SECONDS_PER_LOOK = 20.0
"""Longer than any answer is kept: every look asks for everything."""


@dataclass
class OperatorInHand:
    """One operator and the controllers around it, in one namespace."""

    namespace: Namespace
    client: FaultyClient
    probes: FakeProbes = field(default_factory=FakeProbes)
    events: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controllers = Controllers(self.namespace)
        self.probes.addresses = self.controllers.addresses
        self._ticks: Iterator[int] = itertools.count()
        self._now = 0.0
        self._start()

    def _start(self) -> None:
        """A new process: it knows nothing of the one before."""
        self._kube = ApiServer(self.client)  # type: ignore[arg-type]
        self._reconciler = Reconciler(self._kube, self.probes, SETTINGS, self._tell, clock=lambda: self._now)

    def _tell(self, body: Any, kind: str, reason: EventReason, message: str) -> None:
        self.events.append((reason.value, message))

    async def close(self) -> None:
        """The process ends in peace."""
        await self._reconciler.close()

    async def settle(self, rounds: int = 30) -> None:
        """Look, and let the controllers look, until nobody has anything to write."""
        for _ in range(rounds):
            before = len(self.client.writes())
            live = await Snapshot.of(self.namespace)
            failed = not await self.look(live)
            stepped = await self.controllers.step(live.objects)
            if not failed and not stepped and len(self.client.writes()) == before:
                return
        raise AssertionError(
            f"still writing after {rounds} looks: {self.client.writes()[-10:]}; {self.failures}"
        )

    async def look(self, live: Snapshot) -> bool:
        """One look at every group; False when something went wrong, and a look later has to put it right."""
        self._now += _SECONDS_PER_LOOK
        try:
            return await self._look(live)
        except Killed:
            self._start()
        except KubeError as error:
            self.failures.append(str(error))
        return False

    async def _look(self, live: Snapshot) -> bool:
        for body in live.objects["VisualIndex"]:
            await self._hold(body)
        for key in live.groups():
            await self._reconciler.reconcile(key, live)
        ending = [body for body in live.objects["VisualIndex"] if "deletionTimestamp" in body["metadata"]]
        for body in ending:
            await self._reconciler.end_reindexes(body, group_of(body), live)
            await self._let_go(body, live)
        return not ending

    async def _hold(self, body: Object) -> None:
        """kopf's finalizer."""
        metadata = body["metadata"]
        if "deletionTimestamp" not in metadata and not metadata.get("finalizers"):
            change = {"metadata": {"finalizers": [names.FINALIZER]}}
            await self.namespace.merge("VisualIndex", metadata["name"], change)

    async def _let_go(self, body: Object, live: Snapshot) -> None:
        """kopf's deletion handler: repeated until it returns."""
        erasure = Erasure(self._kube, SETTINGS)

        def say(kind: str, reason: EventReason, message: str) -> None:
            self._tell(body, kind, reason, message)

        try:
            await erasure.finish(body, member(body, SETTINGS), group_of(body)[2], live, say)
        except kopf.TemporaryError:
            return
        change = {"metadata": {"finalizers": None}}
        await self.namespace.merge("VisualIndex", body["metadata"]["name"], change)
