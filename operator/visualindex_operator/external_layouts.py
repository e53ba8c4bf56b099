"""Another number of shards on a cluster of others: the new layout stands before anything of the old one ends.

There is no second cluster to switch to. An application `shards-NAME-NUMBER` holds the new layout beside `index-NAME` until
the gateways are of it and `index-NAME` has been replaced. Which step is next is told by what Serve reports of these
applications and by the spec, and by nothing else:

1. `index-NAME` is of another layout than wanted: the new layout is put beside it;
2. the new layout runs: the gateways are given it;
3. they run with it: `index-NAME` is given it;
4. that runs: what was beside it goes.

A spec that is changed back, or once more, on the way is one of these situations, too. A layout that gateways may be asking
is never taken away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visualindex.serve_config import (
    applications,
    encoder_applications,
    is_encoder_application,
    shards_application,
    shards_beside,
)
from visualindex.spec import VisualIndex
from visualindex_operator.serve_merge import owner_of, unsettled
from visualindex_operator.serve_state import ApplicationState, ServeState

_RUNNING = "RUNNING"


@dataclass(frozen=True)
class Layouts:
    """One index on a cluster that tells `state`, and what it is to become there."""

    state: ServeState
    owner: str
    resource: VisualIndex
    route_prefix: str
    environment: Mapping[str, str]
    others: Sequence[VisualIndex] = ()
    """The resource with encoders that it is served with besides its own."""

    def wanted(self) -> list[dict[str, Any]]:
        """The applications that are to be there now."""
        index, gateway = self._at(self._shards)
        found = [index if self._may_replace_index(gateway) else self._at(self._layout(index))[0]]
        found.append(gateway if self._may_switch(index, gateway) else self._at(self._layout(gateway))[1])
        found += self._encoders
        return [*found, self._beside] if self._needs_beside(index) else found

    def gone(self) -> dict[str, str]:
        """Those beside the index that are of no use any more, with their owner."""
        index, gateway = self._at(self._shards)
        needed = self._beside["name"] if self._needs_beside(index) else ""
        there = self._own(gateway["name"])
        unused = [
            name
            for name, shards in beside(self.state, self.resource.name, self.owner).items()
            if name != needed and (shards == self._shards or not _may_ask(there, shards))
        ]
        return dict.fromkeys([*unused, *self._unused_encoders()], self.owner)

    @property
    def _encoders(self) -> list[dict[str, Any]]:
        return encoder_applications(
            self.resource, self.others, environment=self.environment, workers=1, roles=False
        )

    def _unused_encoders(self) -> list[str]:
        """Those that nothing needs any more, once the gateways are as wanted: others may be asking them."""
        _, gateway = self._at(self._shards)
        if not self._runs(gateway):
            return []
        wanted = {app["name"] for app in self._encoders}
        return [app for app in encoders(self.state, self.resource.name, self.owner) if app not in wanted]

    @property
    def _shards(self) -> int:
        return self.resource.spec.index.shards

    @property
    def _beside(self) -> dict[str, Any]:
        return shards_beside(self.resource, environment=self.environment, workers=1, roles=False)

    def _at(self, shards: int) -> list[dict[str, Any]]:
        """`index-NAME` and `gateway-NAME`, as the spec wants them but for the number of shards."""
        spec = self.resource.spec
        section = spec.index.model_copy(update={"shards": shards})
        resource = self.resource.model_copy(update={"spec": spec.model_copy(update={"index": section})})
        return applications(
            resource,
            route_prefix=self.route_prefix,
            environment=self.environment,
            workers=1,
            roles=False,
        )

    def _may_replace_index(self, gateway: Mapping[str, Any]) -> bool:
        return self._runs(gateway) and self._runs(self._beside)

    def _may_switch(self, index: Mapping[str, Any], gateway: Mapping[str, Any]) -> bool:
        ready = self._runs(index) or self._runs(self._beside)
        return ready or self._layout(gateway) == self._shards

    def _needs_beside(self, index: Mapping[str, Any]) -> bool:
        """Until the index itself has the new layout; what was never there is not put beside one that starts."""
        if self._layout(index) != self._shards:
            return True
        return self._own(self._beside["name"]) is not None and not self._runs(index)

    def _layout(self, app: Mapping[str, Any]) -> int:
        """The number of shards that an application was last given; the wanted one where there is none."""
        there = self._own(app["name"])
        return self._shards if there is None else _shards_of(there) or self._shards

    def _runs(self, app: Mapping[str, Any]) -> bool:
        there = self._own(app["name"])
        return there is not None and there.status == _RUNNING and not unsettled(self.state, [app], {})

    def _own(self, name: str) -> ApplicationState | None:
        return _own(self.state, name, self.owner)


def beside(state: ServeState, name: str, owner: str) -> dict[str, int]:
    """The applications of an index that hold a layout beside it, with their numbers of shards."""
    start = shards_application(name, 0).removesuffix("0")
    found = {
        app: int(app.removeprefix(start))
        for app in state.applications
        if app.startswith(start) and app.removeprefix(start).isdecimal()
    }
    return {app: shards for app, shards in found.items() if _own(state, app, owner) is not None}


def encoders(state: ServeState, name: str, owner: str) -> list[str]:
    """The applications of an index that hold its encoders."""
    return [
        app
        for app in state.applications
        if is_encoder_application(app, name) and _own(state, app, owner) is not None
    ]


def _own(state: ServeState, name: str, owner: str) -> ApplicationState | None:
    found = state.applications.get(name)
    return found if found is not None and owner_of(found.deployed_app_config) == owner else None


def _may_ask(gateway: ApplicationState | None, shards: int) -> bool:
    """Whether gateways may be asking a layout: while they are replaced, any."""
    if gateway is None:
        return False
    return gateway.status != _RUNNING or _shards_of(gateway) in (shards, None)


def _shards_of(app: ApplicationState) -> int | None:
    """The number of shards in an application's arguments, which leave out what is the default; None if they are not ours."""
    arguments = (app.deployed_app_config or {}).get("args") or {}
    documents = [arguments.get("index"), *(arguments.get("indexes") or [])]
    for document in documents:
        if isinstance(document, dict):
            section = (document.get("spec") or {}).get("index") or {}
            return int(section.get("shards", 1))
    return None
