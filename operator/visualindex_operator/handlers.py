"""What kopf calls: indices of what is there, a daemon per resource that looks at its group, and the deletion."""

import logging
from typing import Any

import kopf

from visualindex_operator import connections, names, telemetry
from visualindex_operator.erasing import Erasure
from visualindex_operator.kube import ApiServer, KubeError
from visualindex_operator.live import Object, lean
from visualindex_operator.logs import about
from visualindex_operator.members import GroupKey, group_of, member
from visualindex_operator.mirror import Mirror, keyed
from visualindex_operator.no_diffs import NoDiffs
from visualindex_operator.reasons import EventReason
from visualindex_operator.reconciler import Reconciler
from visualindex_operator.settings import Settings
from visualindex_operator.wakes import Wakes, looks_for_all, within

logger = logging.getLogger(__name__)

_OURS = {names.CLUSTER_LABEL: kopf.PRESENT}
_SLOWEST_S = 60.0


kopf.on.login()(connections.login)


@kopf.on.startup()
async def start(memo: kopf.Memo, settings: kopf.OperatorSettings, **_: Any) -> None:
    """Opens the connections and sets kopf up."""
    configure(settings, memo.settings)
    memo.kube = await ApiServer.connect()
    memo.wakes = Wakes()
    memo.reconciler = Reconciler(memo.kube, memo.probes, memo.settings, tell)


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Closes the connections."""
    await memo.reconciler.close()
    await memo.probes.close()
    await memo.kube.close()


def configure(settings: kopf.OperatorSettings, own: Settings) -> None:
    """kopf's settings: its notes under our own names, watches that heal, events that are only ours."""
    # In named namespaces it has no right to list namespaces and definitions: asking all the same takes a minute of
    # refusals at each start.
    settings.scanning.disabled = bool(own.namespaces)
    settings.persistence.finalizer = names.FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = NoDiffs()
    settings.posting.loggers = False
    settings.posting.reporting_instance = names.FIELD_MANAGER
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 330
    settings.networking.request_timeout = 15


def tell(body: Any, kind: str, reason: EventReason, message: str) -> None:
    """An Event on a resource."""
    kopf.event(body, type=kind, reason=reason.value, message=message)


# kopf calls a function that is none of asyncio in a thread, which costs more than what these do.
@kopf.index(names.GROUP, names.VERSION, names.PLURAL)
async def groups(body: kopf.Body, **_: Any) -> dict[GroupKey, Object]:
    """The resources of each group."""
    return {group_of(body): lean(body)}


@kopf.index("ray.io", "v1", "rayservices", labels=_OURS)
async def ray_services(body: kopf.Body, **_: Any) -> dict[tuple[str, ...], Object]:
    """Our RayServices."""
    return keyed(body)


@kopf.index("ray.io", "v1", "rayjobs", labels=_OURS)
async def ray_jobs(body: kopf.Body, **_: Any) -> dict[tuple[str, ...], Object]:
    """Our RayJobs."""
    return keyed(body)


@kopf.index("batch", "v1", "jobs", labels=_OURS)
async def jobs(body: kopf.Body, **_: Any) -> dict[tuple[str, ...], Object]:
    """Our Jobs."""
    return keyed(body)


@kopf.index("networking.k8s.io", "v1", "networkpolicies", labels=_OURS)
async def network_policies(body: kopf.Body, **_: Any) -> dict[tuple[str, ...], Object]:
    """Our NetworkPolicies."""
    return keyed(body)


@kopf.index("policy", "v1", "poddisruptionbudgets", labels=_OURS)
async def disruption_budgets(body: kopf.Body, **_: Any) -> dict[tuple[str, ...], Object]:
    """Our PodDisruptionBudgets."""
    return keyed(body)


@kopf.on.event(names.GROUP, names.VERSION, names.PLURAL)
async def resource_changed(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """A resource changed: its group is looked at now."""
    where = group_of(body)
    memo.wakes.wake(where[0], names.cluster_label(where[2]))


@kopf.on.event("ray.io", "v1", "rayservices", labels=_OURS)
@kopf.on.event("ray.io", "v1", "rayjobs", labels=_OURS)
@kopf.on.event("batch", "v1", "jobs", labels=_OURS)
@kopf.on.event("networking.k8s.io", "v1", "networkpolicies", labels=_OURS)
@kopf.on.event("policy", "v1", "poddisruptionbudgets", labels=_OURS)
async def child_changed(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """A child changed: its group is looked at now."""
    memo.wakes.wake(_place(body)[0], body.metadata.labels[names.CLUSTER_LABEL])


def _place(body: kopf.Body) -> tuple[str, str]:
    """Namespace and name."""
    return str(body.metadata.namespace), str(body.metadata.name)


@kopf.daemon(names.GROUP, names.VERSION, names.PLURAL, cancellation_timeout=5)
async def watch(
    body: kopf.Body,
    stopped: kopf.DaemonStopped,
    memo: kopf.Memo,
    **indices: Any,
) -> None:
    """Looks at a resource's group whenever something about it changes, and every few seconds."""
    live = Mirror.of(indices)
    failures = 0
    while not stopped:
        key = group_of(body)
        change = memo.wakes.next_change(key)
        try:
            if looks_for_all(body, live.members(*key)):
                await memo.reconciler.reconcile(key, live)
            failures = 0
        except KubeError as error:
            failures += 1
            _failed(body, error, failures)
        except Exception as error:
            failures += 1
            about(logger, body).exception("reconciling failed")
            _failed(body, error, failures)
        pause = memo.settings.resync_s if not failures else min(_SLOWEST_S, 2.0**failures)
        await within(change, pause)


def _failed(body: kopf.Body, error: Exception, failures: int) -> None:
    """Tried again by itself, ever more slowly; told to people when it goes on."""
    about(logger, body).warning("attempt %d failed: %s", failures, error)
    if failures in (3, 10) or failures % 60 == 0:
        tell(body, "Warning", EventReason.RECONCILE_FAILED, f"after {failures} attempts: {error}"[:1000])


async def _without(reconciler: Reconciler, key: GroupKey, live: Mirror, body: kopf.Body) -> None:
    """Have the rest of the group served without the resource. What is wrong with the rest must not hold it for ever."""
    try:
        await reconciler.reconcile(key, live)
    except Exception as error:
        about(logger, body).warning("while it is deleted: %s", error)


@kopf.on.delete(names.GROUP, names.VERSION, names.PLURAL)
async def deleted(
    body: kopf.Body,
    memo: kopf.Memo,
    **indices: Any,
) -> None:
    """Ends serving, deletes data where the policy says so, and only then lets the resource go."""
    live = Mirror.of(indices)
    key = group_of(body)
    try:
        await _without(memo.reconciler, key, live, body)
        await memo.reconciler.end_reindexes(body, key, live)
        erasure = Erasure(memo.kube, memo.settings)

        def say(kind: str, reason: EventReason, message: str) -> None:
            tell(body, kind, reason, message)

        refusal = memo.reconciler.refusal(*_place(body))
        await erasure.finish(body, member(body, memo.settings), key[2], live, say, refusal)
    except KubeError as error:
        raise kopf.TemporaryError(str(error), delay=5) from error
    memo.reconciler.forget(*_place(body))
    telemetry.forget(*_place(body))
