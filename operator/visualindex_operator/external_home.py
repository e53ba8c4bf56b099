"""A Ray cluster that somebody else runs: our applications are merged into its Serve configuration."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from visualindex.credentials import Credentials
from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Member, Serving
from visualindex.planning.plan import (
    EndCluster,
    Serve,
    Served,
    StopServing,
    applied_spec,
    route_prefix,
)
from visualindex.spec.models import ExternalRaySpec
from visualindex_operator.choosing import chosen
from visualindex_operator.cluster_locks import ClusterLocks
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.external_layouts import Layouts, beside, encoders
from visualindex_operator.external_serving import (
    MESSAGE,
    applications_of,
    credentials_in_use,
    environment,
    serving,
)
from visualindex_operator.homes import HomeAction, Seen, Standing
from visualindex_operator.live import Live, Object
from visualindex_operator.probes import Probes
from visualindex_operator.serve_clients import Access, ServeClients, access
from visualindex_operator.serve_converge import converge
from visualindex_operator.serve_merge import merged
from visualindex_operator.serve_problems import ClusterRefused, ClusterUnreachable, NameTaken
from visualindex_operator.serve_state import ServeState

_REASONS = {
    ClusterUnreachable: Reason.CLUSTER_UNREACHABLE,
    ClusterRefused: Reason.CLUSTER_REFUSED,
    NameTaken: Reason.NAME_TAKEN,
}
_Refusal = ClusterUnreachable | ClusterRefused | NameTaken


class _SeveralWaysError(Exception):
    """The indexes reach their cluster by different addresses or tokens."""


@dataclass(frozen=True)
class _ExternalStanding(Standing):
    told: Mapping[str, ServeState | _Refusal] = field(default_factory=dict)
    """What each member's cluster told of itself in this look, or why it did not."""


@dataclass(frozen=True)
class _Change:
    """What is to become of one index's applications."""

    ours: Sequence[Mapping[str, Any]] = ()
    gone: Mapping[str, str] = field(default_factory=dict)


class ExternalHome:
    """`Home` by the REST API of an existing cluster."""

    def __init__(self, probes: Probes, checks: DependencyChecks) -> None:
        self._probes, self._checks = probes, checks
        self._locks = ClusterLocks()
        self.clients = ServeClients()
        """The connections to the clusters in use."""
        self._refusals: dict[tuple[str, str], _Refusal] = {}

    async def look(self, namespace: str, cluster: str, members: Sequence[Member], live: Live) -> Standing:
        """See `Home`. Every member is judged by the token and the URLs of its own spec."""
        placed = {one.name: external for one in members if (external := _external(one))}
        if not placed:
            return Standing({})
        told = await self._told(namespace, placed)
        each = await asyncio.gather(
            *(self._serving(namespace, cluster, name, placed[name], told[name]) for name in placed)
        )
        first = next(iter(placed.values()))
        return _ExternalStanding(
            serving=dict(zip(placed, each, strict=True)),
            endpoint=first.serve_url.rstrip("/"),
            dashboard=first.address,
            kept=_kept(namespace, told),
            told=told,
        )

    async def _told(
        self, namespace: str, placed: Mapping[str, ExternalRaySpec]
    ) -> dict[str, ServeState | _Refusal]:
        """What the members' clusters tell: each is asked once per token."""
        ways = await asyncio.gather(*(self._way(namespace, external) for external in placed.values()))
        askers: defaultdict[Access, list[str]] = defaultdict(list)
        for name, way in zip(placed, ways, strict=True):
            if isinstance(way, Access):
                askers[way].append(name)
        answers = await asyncio.gather(*(self._read(namespace, names, way) for way, names in askers.items()))
        heard = dict(zip(askers, answers, strict=True))
        return {
            name: heard[way] if isinstance(way, Access) else way
            for name, way in zip(placed, ways, strict=True)
        }

    async def _way(self, namespace: str, external: ExternalRaySpec) -> Access | ClusterRefused:
        try:
            return await access(self._checks, namespace, external)
        except ClusterRefused as problem:
            return problem

    async def _read(self, namespace: str, names: Sequence[str], way: Access) -> ServeState | _Refusal:
        try:
            async with self.clients.of([(namespace, name) for name in names], way) as api:
                return await api.read()
        except (ClusterUnreachable, ClusterRefused) as problem:
            return problem

    async def _serving(
        self,
        namespace: str,
        cluster: str,
        name: str,
        external: ExternalRaySpec,
        told: ServeState | _Refusal,
    ) -> Serving:
        base = external.serve_url.rstrip("/")
        url = base + route_prefix(name, cluster).rstrip("/")
        answers = await self._probes.answers(url)
        state, refusal = (told, None) if isinstance(told, ServeState) else (ServeState(), told)
        found = replace(serving(state, name, f"{namespace}/{name}", base, answers), url=url)
        refused = refusal or self._refusals.get((namespace, name))
        if refused is None:
            return found
        return replace(found, reason=_reason(refused), message=str(refused)[:MESSAGE], running=False)

    def refusal(self, namespace: str, index: str) -> str:
        """Why the index's applications were last not brought onto or taken off the cluster; empty when they were."""
        problem = self._refusals.get((namespace, index))
        return "" if problem is None else str(problem)[:MESSAGE]

    def forget(self, namespace: str, index: str) -> None:
        """Drop what is remembered of an index that is gone."""
        self._refusals.pop((namespace, index), None)
        self.clients.forget((namespace, index))

    async def carry_out(
        self,
        namespace: str,
        cluster: str,
        action: HomeAction,
        bodies: Mapping[str, Object],
        seen: Seen,
        live: Live,
    ) -> list[str]:
        """See `Home`. What the cluster refuses of an index is told by `refusal`, and keeps no other from being served."""
        match action:
            case Serve():
                wanted = {one.name: one for one in action.served}
            case StopServing() | EndCluster():
                wanted = {}
        changes = {name: _change(namespace, name, wanted.get(name), seen) for name in bodies}
        pending: dict[str, _Change] = {}
        for name, change in changes.items():
            with self._noting(namespace, name):
                if not _as_wanted(name, change, seen):
                    pending[name] = change
        if len(pending) > 1 and await self._converge_together(namespace, bodies, pending):
            return []
        for name, change in pending.items():
            with self._noting(namespace, name):
                await self._converge(namespace, {name: bodies[name]}, {name: change})
        return []

    @contextmanager
    def _noting(self, namespace: str, name: str) -> Iterator[None]:
        """Remembers whether what is done for an index was refused, and goes on after it."""
        try:
            yield
        except (ClusterUnreachable, ClusterRefused, NameTaken) as problem:
            self._refusals[namespace, name] = problem
        else:
            self._refusals.pop((namespace, name), None)

    async def _converge_together(
        self, namespace: str, bodies: Mapping[str, Object], pending: Mapping[str, _Change]
    ) -> bool:
        """One write for all of a cluster, which Ray then deploys at once. Where that is refused, nobody is to blame yet."""
        try:
            await self._converge(namespace, {name: bodies[name] for name in pending}, pending)
        except (ClusterUnreachable, ClusterRefused, NameTaken, _SeveralWaysError):
            return False
        return True

    async def _converge(
        self, namespace: str, bodies: Mapping[str, Object], changes: Mapping[str, _Change]
    ) -> None:
        """Write the changes of these indexes at once. Raises _SeveralWaysError where one token does not do for all."""
        ways = {await access(self._checks, namespace, _stated(body)) for body in bodies.values()}
        if len(ways) > 1:  # other tokens may do other things
            raise _SeveralWaysError
        ours = [app for change in changes.values() for app in change.ours]
        gone = {app: owner for change in changes.values() for app, owner in change.gone.items()}
        async with self.clients.of([(namespace, name) for name in changes], ways.pop()) as api:
            await converge(api, self._locks, ours, gone)


def _external(member: Member) -> ExternalRaySpec | None:
    spec = member.spec or applied_spec(member.status)
    return None if spec is None else spec.ray.external


def _stated(body: Object) -> ExternalRaySpec:
    """The cluster that a resource names, also where the rest of its spec cannot be understood. Raises ClusterRefused."""
    ray = (body.get("spec") or {}).get("ray") or {}
    try:
        return ExternalRaySpec.model_validate(ray.get("external"))
    except ValidationError:
        # What pydantic says would quote the input.
        raise ClusterRefused(
            "spec.ray.external cannot be understood: state address and serveUrl, as docs/spec.md has them"
        ) from None


def _kept(namespace: str, told: Mapping[str, ServeState | _Refusal]) -> dict[str, Credentials]:
    found = {
        name: credentials_in_use(state, name, f"{namespace}/{name}")
        for name, state in told.items()
        if isinstance(state, ServeState)
    }
    return {name: one for name, one in found.items() if one is not None}


def _change(namespace: str, name: str, served: Served | None, seen: Seen) -> _Change:
    owner = f"{namespace}/{name}"
    told = _told(name, seen)
    state = told if isinstance(told, ServeState) else ServeState()
    if served is None:
        apps = [*applications_of(name), *beside(state, name, owner), *encoders(state, name, owner)]
        return _Change(gone=dict.fromkeys(apps, owner))
    credentials = chosen(served, seen)
    if credentials is None:
        return _Change()
    given = environment(credentials, owner)
    layouts = Layouts(state, owner, served.resource, served.route_prefix, given, served.beside)
    return _Change(ours=layouts.wanted(), gone=layouts.gone())


def _told(name: str, seen: Seen) -> ServeState | _Refusal | None:
    return seen.standing.told.get(name) if isinstance(seen.standing, _ExternalStanding) else None


def _as_wanted(name: str, change: _Change, seen: Seen) -> bool:
    """Whether this look has shown that nothing is to be written. Raises what it was refused with instead of a state."""
    told = _told(name, seen)
    if told is not None and not isinstance(told, ServeState):
        raise told
    if not change.ours and not change.gone:
        return True
    return told is not None and merged(told, change.ours, change.gone) is None


def _reason(refused: _Refusal) -> Reason:
    return next(reason for kind, reason in _REASONS.items() if isinstance(refused, kind))
