"""A Ray cluster that somebody else runs: our applications are merged into its Serve configuration."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Member, Serving
from visualindex.planning.plan import (
    Action,
    EndCluster,
    Migrate,
    Serve,
    Served,
    StopServing,
    applied_spec,
    route_prefix,
)
from visualindex.serve_config import applications, gateway_application, index_application
from visualindex.spec.models import ExternalRaySpec
from visualindex_operator.cluster_locks import ClusterLocks
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.homes import Seen, Standing
from visualindex_operator.kube import Kube
from visualindex_operator.live import Live, Object
from visualindex_operator.migrating import ensure_migration
from visualindex_operator.probes import Probes
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_converge import converge
from visualindex_operator.serve_merge import OWNER, merged
from visualindex_operator.serve_problems import ClusterRefused, ClusterUnreachable, NameTaken
from visualindex_operator.serve_state import ApplicationState, ServeState
from visualindex_operator.settings import Settings
from visualindex_operator.trouble import trouble

_MESSAGE = 500
_REASONS = {
    ClusterUnreachable: Reason.CLUSTER_UNREACHABLE,
    ClusterRefused: Reason.CLUSTER_REFUSED,
    NameTaken: Reason.NAME_TAKEN,
}
_Refusal = ClusterUnreachable | ClusterRefused | NameTaken


@dataclass(frozen=True)
class _Change:
    """What one index wants of the cluster: `ours` on it, `gone` (application → its owner) off it."""

    index: str
    external: ExternalRaySpec
    ours: Sequence[Mapping[str, Any]]
    gone: Mapping[str, str]


class ExternalHome:
    """`Home` by the REST API of an existing cluster."""

    def __init__(self, kube: Kube, probes: Probes, checks: DependencyChecks, settings: Settings) -> None:
        self._kube, self._probes, self._checks, self._settings = kube, probes, checks, settings
        self._locks = ClusterLocks()
        self._apis: dict[tuple[str, str], ServeAPI] = {}
        self._refusals: dict[tuple[str, str], _Refusal] = {}

    async def look(self, namespace: str, cluster: str, members: Sequence[Member], live: Live) -> Standing:
        """See `Home`."""
        external = next((found for one in members if (found := _external(one))), None)
        if external is None:
            return Standing({})
        state, refusal = await self._state(namespace, external)
        each = await asyncio.gather(
            *(self._serving(namespace, cluster, one, external, state, refusal) for one in members)
        )
        serving = {one.name: standing for one, standing in zip(members, each, strict=True)}
        return Standing(serving, endpoint=external.serve_url.rstrip("/"), dashboard=external.address)

    async def _state(
        self, namespace: str, external: ExternalRaySpec
    ) -> tuple[ServeState | None, _Refusal | None]:
        try:
            return await (await self._api(namespace, external)).read(), None
        except (ClusterUnreachable, ClusterRefused) as problem:
            return None, problem

    async def _api(self, namespace: str, external: ExternalRaySpec) -> ServeAPI:
        """The way to the cluster, with the token that its Secret has now."""
        token = ""
        if external.token_secret_ref is not None:
            reference = external.token_secret_ref
            found = await self._checks.value(namespace, reference, "spec.ray.external.tokenSecretRef")
            if not isinstance(found, str):
                raise ClusterRefused(found.check.message)
            token = found
        key = (external.address, token)
        if key not in self._apis:
            self._apis[key] = ServeAPI(external.address, token or None)
        return self._apis[key]

    async def _serving(
        self,
        namespace: str,
        cluster: str,
        one: Member,
        external: ExternalRaySpec,
        state: ServeState | None,
        refusal: _Refusal | None,
    ) -> Serving:
        url = external.serve_url.rstrip("/") + route_prefix(one.name, cluster).rstrip("/")
        answers = await self._probes.answers(url)
        refused = refusal or self._refusals.get((namespace, one.name))
        found = _standing(state or ServeState(), one.name, f"{namespace}/{one.name}", answers)
        if refused is None:
            return found
        return replace(found, reason=_REASONS[type(refused)], message=str(refused)[:_MESSAGE], running=False)

    def refusal(self, namespace: str, index: str) -> str:
        """Why the index's applications were last not brought onto or taken off the cluster; empty when they were."""
        problem = self._refusals.get((namespace, index))
        return "" if problem is None else str(problem)[:_MESSAGE]

    def forget(self, namespace: str, index: str) -> None:
        """Drop what is remembered of an index that is gone."""
        self._refusals.pop((namespace, index), None)

    async def carry_out(
        self,
        namespace: str,
        cluster: str,
        action: Action,
        bodies: Mapping[str, Object],
        seen: Seen,
        live: Live,
    ) -> list[str]:
        """See `Home`."""
        match action:
            case Migrate():
                body = bodies[action.index]
                return await ensure_migration(
                    self._kube, namespace, cluster, action, body, seen, live, self._settings
                )
            case Serve():
                wanted = {one.name: one for one in action.served}
            case StopServing() | EndCluster():
                wanted = {}
        changes = [_change(namespace, body, wanted.get(name), seen) for name, body in bodies.items()]
        read: dict[ServeAPI, ServeState] = {}
        if len(changes) > 1:
            await self._converge_together(namespace, changes, read)
        for change in changes:
            await self._converge(namespace, change, read)
        return []

    async def _converge_together(
        self, namespace: str, changes: Sequence[_Change], read: dict[ServeAPI, ServeState]
    ) -> None:
        """One write for all of a cluster, which Ray then deploys at once. Where that is refused, nobody is to blame yet."""
        with suppress(*_REASONS):
            apis = [await self._api(namespace, change.external) for change in changes]
            if len(set(apis)) > 1:  # other tokens may do other things
                return
            ours = [app for change in changes for app in change.ours]
            gone = {app: owner for change in changes for app, owner in change.gone.items()}
            read[apis[0]] = await converge(apis[0], self._locks, ours, gone)

    async def _converge(self, namespace: str, change: _Change, read: dict[ServeAPI, ServeState]) -> None:
        """One index at a time: what is wrong with one keeps no other from being served.

        `read` is what clusters were seen to have during this look: indexes that are as wanted ask for nothing.
        """
        try:
            api = await self._api(namespace, change.external)
            if api not in read or merged(read[api], change.ours, change.gone) is not None:
                read[api] = await converge(api, self._locks, change.ours, change.gone)
        except (ClusterUnreachable, ClusterRefused, NameTaken) as problem:
            self._refusals[namespace, change.index] = problem
        else:
            self._refusals.pop((namespace, change.index), None)


def _change(namespace: str, body: Object, served: Served | None, seen: Seen) -> _Change:
    name = body["metadata"]["name"]
    owner = f"{namespace}/{name}"
    return _Change(
        index=name,
        external=ExternalRaySpec.model_validate(body["spec"]["ray"]["external"]),
        ours=[] if served is None else _applications(served, owner, seen),
        gone={} if served is not None else dict.fromkeys(_own(name), owner),
    )


def _external(member: Member) -> ExternalRaySpec | None:
    spec = member.spec or applied_spec(member.status)
    return None if spec is None else spec.ray.external


def _own(name: str) -> list[str]:
    return [index_application(name), gateway_application(name)]


def _applications(served: Served, owner: str, seen: Seen) -> list[dict[str, Any]]:
    credentials = seen.fresh.get(served.name)
    variables = {} if credentials is None else credentials.environment()
    return applications(
        served.resource,
        route_prefix=served.route_prefix,
        environment={**variables, OWNER: owner},
        workers=1,
        roles=False,
    )


def _standing(state: ServeState, name: str, owner: str, answers: str | None) -> Serving:
    found = {app: state.applications.get(app) for app in _own(name)}
    own = {
        app: one for app, one in found.items() if one is not None and _owner(one.deployed_app_config) == owner
    }
    states = [one.status for one in own.values()]
    complete = len(own) == len(found)
    settled = complete and all(status == "RUNNING" for status in states)
    lines = [_line(app, one) for app, one in own.items() if one.status != "RUNNING"]
    return Serving(
        exists=True,
        running=settled or (complete and answers is None),
        settled=settled,
        failed=any(status in ("DEPLOY_FAILED", "UNHEALTHY") for status in states),
        message="; ".join(lines)[:_MESSAGE] if own else "the cluster has not been told of the index yet",
        answers=answers if complete else answers or "the applications are not on the cluster",
        missing="; ".join(lines)[:_MESSAGE] if not settled else "",
        deployed=bool(own),
    )


def _line(app: str, state: ApplicationState) -> str:
    deployments = {name: (one.status, one.message) for name, one in state.deployments.items()}
    return trouble(app, state.status, state.message, deployments)


def _owner(config: Mapping[str, Any] | None) -> str:
    variables = ((config or {}).get("runtime_env") or {}).get("env_vars") or {}
    return str(variables.get(OWNER, ""))
