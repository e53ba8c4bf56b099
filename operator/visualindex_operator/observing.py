"""Gathering what the planner has to know of a group on KubeRay: dependencies, jobs, the cluster and its answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visualindex.credentials import Credentials, entry_names
from visualindex.planning.observations import (
    Check,
    Dependencies,
    GroupObserved,
    Member,
    MemberObserved,
    MigrationState,
    Serving,
)
from visualindex.planning.plan import applied_spec, route_prefix
from visualindex.serve_config import gateway_application, index_application
from visualindex.spec import Spec
from visualindex.spec.status import EncoderStatus
from visualindex_operator import names
from visualindex_operator.dependencies import Checked, DependencyChecks, SecretData, decoded
from visualindex_operator.kube import Kube
from visualindex_operator.live import Live
from visualindex_operator.probes import Probes
from visualindex_operator.rayservice import deployed_applications, deployed_credentials
from visualindex_operator.settings import Settings

_NOTHING = Check(False, "InvalidSpec", "the spec cannot be understood")


@dataclass(frozen=True)
class Seen:
    """The observations for the planner, and what carrying out its plan needs besides."""

    observed: GroupObserved
    fresh: Mapping[str, Credentials]
    """Credentials from the Secrets that specs name, where complete."""
    kept: Mapping[str, Credentials]
    """Credentials that the cluster's pods have."""
    migration_inputs: Mapping[str, Any]


class KubeRayObserver:
    """Looks at one group on KubeRay."""

    def __init__(self, kube: Kube, probes: Probes, checks: DependencyChecks, settings: Settings) -> None:
        self._kube, self._probes, self._checks, self._settings = kube, probes, checks, settings
        self._addresses: dict[tuple[str, str], str] = {}

    async def look(self, namespace: str, cluster: str, members: Sequence[Member], live: Live) -> Seen:
        """Everything about a group, as it is now. Raises KubeError when the API server does not tell."""
        service = live.ray_service(namespace, cluster)
        mounted = await self._checks.secret(namespace, names.credentials_secret(cluster)) or {}
        base = await self._address(namespace, cluster) if service is not None else ""
        seen: dict[str, MemberObserved] = {}
        fresh: dict[str, Credentials] = {}
        inputs: dict[str, Any] = {}
        for one in members:
            spec = one.spec or applied_spec(one.status)
            if spec is None:
                seen[one.name] = MemberObserved(Dependencies(_NOTHING, _NOTHING, _NOTHING))
                continue
            checked = await self._checks.check(namespace, one.name, spec)
            if checked.credentials is not None:
                fresh[one.name] = checked.credentials
            inputs[one.name] = migration_inputs(spec, checked)
            url = base + route_prefix(one.name, cluster).rstrip("/") if base else ""
            seen[one.name] = MemberObserved(
                dependencies=_dependencies(namespace, one.name, checked, inputs[one.name], live),
                serving=await self._serving(one, url, service),
                images=checked.inspection.images if checked.inspection else None,
                encoder=_encoder(checked),
            )
        observed = GroupObserved(
            members=seen,
            cluster_shape=_shape(service),
            cluster_endpoint=_url(names.serve_service(cluster), namespace, names.SERVE_PORT),
            dashboard=_url(names.head_service(cluster), namespace, names.DASHBOARD_PORT),
        )
        return Seen(observed, fresh, _mounted(mounted, [m.name for m in members]), inputs)

    async def _address(self, namespace: str, cluster: str) -> str:
        """The base URL behind the cluster's Service, by address: the operator may run where names are not resolved."""
        key = (namespace, cluster)
        if key not in self._addresses:
            found = await self._kube.get("Service", namespace, names.serve_service(cluster))
            address = (found or {}).get("spec", {}).get("clusterIP", "")
            if not address or address == "None":
                return ""
            self._addresses[key] = f"http://{address}:{names.SERVE_PORT}"
        return self._addresses[key]

    async def _serving(self, member: Member, url: str, service: Mapping[str, Any] | None) -> Serving:
        if service is None:
            self._addresses.clear()
            return Serving(message="there is no Ray cluster yet")
        deployed = deployed_applications(service)
        own = [index_application(member.name), gateway_application(member.name)]
        here = all(name in deployed for name in own)
        answers = await self._probes.answers(url) if url else "the cluster has no Service yet"
        return _serving(service, own, here, answers, deployed_credentials(deployed.get(own[1], {})))


def _serving(
    service: Mapping[str, Any], own: Sequence[str], here: bool, answers: str | None, credentials: str
) -> Serving:
    status = service.get("status") or {}
    active = (status.get("activeServiceStatus") or {}).get("applicationStatuses") or {}
    pending = status.get("pendingServiceStatus") or {}
    waiting = pending.get("applicationStatuses") or {}
    states = {name: (active.get(name) or waiting.get(name) or {}) for name in own}
    running = here and all((active.get(name) or {}).get("status") == "RUNNING" for name in own)
    current = status.get("observedGeneration") == service["metadata"].get("generation")
    settled = running and current and not pending.get("rayClusterName")
    failed = any(state.get("status") in ("DEPLOY_FAILED", "UNHEALTHY") for state in states.values())
    return Serving(
        exists=True,
        running=running,
        settled=settled,
        failed=failed,
        message=_message(states, here, pending),
        answers=answers,
        missing="" if settled or answers is not None else _missing(states, pending),
        deployed=here,
        credentials=credentials,
    )


def _message(states: Mapping[str, Mapping[str, Any]], here: bool, pending: Mapping[str, Any]) -> str:
    if not here:
        return "the cluster has not been told of the index yet"
    lines = [_line(name, state) for name, state in states.items() if state.get("status") != "RUNNING"]
    if pending.get("rayClusterName"):
        lines.append(f"cluster {pending['rayClusterName']} is being prepared")
    return "; ".join(lines)[:1000]


def _line(name: str, state: Mapping[str, Any]) -> str:
    status = state.get("status") or "not started"
    message = " ".join(str(state.get("message", "")).split())[-400:]
    return f"{name} is {status}{f': {message}' if message else ''}"


def _missing(states: Mapping[str, Mapping[str, Any]], pending: Mapping[str, Any]) -> str:
    return _message(states, True, pending) or "the cluster is being updated"


def migration_inputs(spec: Spec, checked: Checked) -> dict[str, str]:
    """What a migration depends on: it has to run again for another release, database or set of keys."""
    dsn = checked.credentials.dsn if checked.credentials else ""
    return {"image": str(spec.ray.image), "database": names.digest(dsn), "keys": checked.keys_digest}


def _dependencies(
    namespace: str, index: str, checked: Checked, inputs: Mapping[str, str], live: Live
) -> Dependencies:
    state, message = job_state(live.job(namespace, names.job(index, "migrate", inputs)))
    return Dependencies(
        metadata=checked.metadata,
        storage=checked.storage,
        keys=checked.keys,
        credentials=checked.credentials.digest() if checked.credentials else "",
        migration=state,
        migration_message=message,
    )


def job_state(job: Mapping[str, Any] | None) -> tuple[MigrationState, str]:
    """How far a job is, and why it failed."""
    if job is None:
        return "absent", ""
    status = job.get("status") or {}
    if status.get("succeeded"):
        return "done", ""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            name = job["metadata"]["name"]
            return "failed", f"{condition.get('message', 'the job failed')}; see kubectl logs job/{name}"
    return "running", ""


def _encoder(checked: Checked) -> EncoderStatus | None:
    found = checked.inspection
    if found is None or not found.fingerprint:
        return None
    return EncoderStatus(fingerprint=found.fingerprint, dimension=found.dimension)


def _shape(service: Mapping[str, Any] | None) -> str:
    if service is None:
        return ""
    annotations = service["metadata"].get("annotations") or {}
    return str(annotations.get(names.SHAPE, "unknown"))


def _mounted(data: SecretData, indexes: Sequence[str]) -> dict[str, Credentials]:
    found: dict[str, Credentials] = {}
    for index in indexes:
        dsn, access, secret = (decoded(data[name]) if name in data else None for name in entry_names(index))
        if dsn is not None:
            found[index] = Credentials(dsn, access, secret)
    return found


def _url(service: str, namespace: str, port: int) -> str:
    return f"http://{service}.{namespace}.svc:{port}"
