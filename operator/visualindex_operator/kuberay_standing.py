"""How a group stands on a cluster of ours: its RayService, what it says of its applications, and what they answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from visualindex.credentials import Credentials, buckets_entry, entry_names, read_buckets
from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Member, Serving
from visualindex.planning.plan import route_prefix
from visualindex.serve_config import gateway_application, index_application, is_encoder_application
from visualindex_operator import names
from visualindex_operator.dependencies import DependencyChecks, SecretData, decoded
from visualindex_operator.homes import Standing
from visualindex_operator.kube import Kube
from visualindex_operator.live import Live
from visualindex_operator.probes import Probes
from visualindex_operator.rayservice import deployed_applications, deployed_credentials
from visualindex_operator.trouble import trouble

_KUBERAY_IS_MISSING = Serving(
    reason=Reason.KUBERAY_MISSING,
    message="the API server does not know RayServices: install KubeRay's operator, 1.6 or newer, with its CRDs",
)
_NO_CLUSTER = Serving(message="there is no Ray cluster yet")
_NOTHING_TOLD = (
    "Ray has told nothing of the applications yet: kubectl visualindex status says what its pods wait for"
)


class KubeRayStanding:
    """Looks at RayServices."""

    def __init__(self, kube: Kube, probes: Probes, checks: DependencyChecks) -> None:
        self._kube, self._probes, self._checks = kube, probes, checks
        self._addresses: dict[tuple[str, str], str] = {}
        self.kuberay_is_missing = False
        """Whether the API server did not know RayServices when one was last applied."""

    async def look(self, namespace: str, cluster: str, members: Sequence[Member], live: Live) -> Standing:
        """See `Home`."""
        service = live.ray_service(namespace, cluster)
        mounted = await self._checks.secret(namespace, names.credentials_secret(cluster), own=True) or {}
        base = await self._address(namespace, cluster, service)
        found = await asyncio.gather(*(self._serving(one, cluster, base, service) for one in members))
        if all(one.answers is not None for one in found):
            self._addresses.pop((namespace, cluster), None)  # a Service that was made anew has another one
        return Standing(
            serving={one.name: serving for one, serving in zip(members, found, strict=True)},
            shape=_shape(service),
            endpoint=_url(names.serve_service(cluster), namespace, names.SERVE_PORT),
            dashboard=_url(names.head_service(cluster), namespace, names.DASHBOARD_PORT),
            kept=_in_use(mounted, service, [one.name for one in members]),
        )

    async def _address(self, namespace: str, cluster: str, service: Mapping[str, Any] | None) -> str:
        """The base URL behind the cluster's Service, by address: the operator may run where names are not resolved."""
        key = (namespace, cluster)
        if service is None:
            self._addresses.pop(key, None)
            return ""
        if key not in self._addresses:
            found = await self._kube.get("Service", namespace, names.serve_service(cluster))
            address = (found or {}).get("spec", {}).get("clusterIP", "")
            if not address or address == "None":
                return ""
            host = f"[{address}]" if ":" in address else address
            self._addresses[key] = f"http://{host}:{names.SERVE_PORT}"
        return self._addresses[key]

    async def _serving(
        self, member: Member, cluster: str, base: str, service: Mapping[str, Any] | None
    ) -> Serving:
        if service is None:
            return _KUBERAY_IS_MISSING if self.kuberay_is_missing else _NO_CLUSTER
        deployed = deployed_applications(service)
        own = [index_application(member.name), gateway_application(member.name)]
        here = all(name in deployed for name in own)
        own += [app for app in deployed if is_encoder_application(app, member.name)]
        url = base + route_prefix(member.name, cluster).rstrip("/")
        answers = await self._probes.answers(url) if base else "the cluster has no Service yet"
        found = _serving(service, own, here, answers, deployed_credentials(deployed.get(own[1], {})))
        return replace(found, url=url)


def _serving(
    service: Mapping[str, Any], own: Sequence[str], here: bool, answers: str | None, credentials: str
) -> Serving:
    status = service.get("status") or {}
    active = (status.get("activeServiceStatus") or {}).get("applicationStatuses") or {}
    pending = status.get("pendingServiceStatus") or {}
    waiting = pending.get("applicationStatuses") or {}
    states = {name: (active.get(name) or waiting.get(name) or {}) for name in own}
    states_now = [(active.get(name) or {}).get("status") for name in own]
    whole = here and all(state == "RUNNING" for state in states_now)
    running = whole or (here and answers is None and all(states_now))
    current = status.get("observedGeneration") == service["metadata"].get("generation")
    absent = _absent_workers(service)
    settled = whole and current and not absent and not pending.get("rayClusterName")
    failed = any(state.get("status") in ("DEPLOY_FAILED", "UNHEALTHY") for state in states.values())
    return Serving(
        exists=True,
        running=running,
        settled=settled,
        failed=failed,
        message=_message(states, here, pending),
        answers=answers,
        missing="" if settled or answers is not None else absent or _missing(states, pending),
        deployed=here,
        credentials=credentials,
    )


def _absent_workers(service: Mapping[str, Any]) -> str:
    """What is told of worker pods that should take requests and do not; nothing where KubeRay does not count them."""
    groups = service["spec"].get("rayClusterConfig", {}).get("workerGroupSpecs") or []
    wanted = sum(int(group.get("replicas", 0)) for group in groups)
    present = (service.get("status") or {}).get("numServeEndpoints")
    if present is None or present >= wanted:
        return ""
    return f"{present} of {wanted} worker pods take requests"


def _message(states: Mapping[str, Mapping[str, Any]], here: bool, pending: Mapping[str, Any]) -> str:
    if not here:
        return "the cluster has not been told of the index yet"
    if not any(states.values()):
        return _NOTHING_TOLD
    lines = [_line(name, state) for name, state in states.items() if state.get("status") != "RUNNING"]
    if pending.get("rayClusterName"):
        lines.append(f"cluster {pending['rayClusterName']} is being prepared")
    return "; ".join(lines)[:1000]


def _line(name: str, state: Mapping[str, Any]) -> str:
    deployments = {
        deployment: (str(one.get("status", "")), str(one.get("message", "")))
        for deployment, one in (state.get("serveDeploymentStatuses") or {}).items()
    }
    return trouble(name, str(state.get("status", "")), str(state.get("message", "")), deployments)


def _missing(states: Mapping[str, Mapping[str, Any]], pending: Mapping[str, Any]) -> str:
    return _message(states, True, pending) or "the cluster is being updated"


def _shape(service: Mapping[str, Any] | None) -> str:
    if service is None:
        return ""
    annotations = service["metadata"].get("annotations") or {}
    return str(annotations.get(names.SHAPE, "unknown"))


def _in_use(
    data: SecretData, service: Mapping[str, Any] | None, indexes: Sequence[str]
) -> dict[str, Credentials]:
    """The credentials that the cluster was last told to use, where the mounted Secret has them."""
    deployed = deployed_applications(service) if service is not None else {}
    found: dict[str, Credentials] = {}
    for index in indexes:
        digest = deployed_credentials(deployed.get(gateway_application(index), {}))
        version = f"{index}.{digest[:12]}"
        names_ = (*entry_names(version), buckets_entry(version))
        dsn, access, secret, buckets = (decoded(data[name]) if name in data else None for name in names_)
        if digest and dsn is not None:
            found[index] = Credentials(dsn, access, secret, read_buckets(buckets))
    return found


def _url(service: str, namespace: str, port: int) -> str:
    return f"http://{service}.{namespace}.svc:{port}"
