"""One look at a group: observe, plan, carry out, report. Nothing is kept between two looks."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from visualindex.planning.observations import Member
from visualindex.planning.plan import AskReindex, Migrate, applied_spec, plan
from visualindex.planning.reindexing import BeginReindex, EndReindexRun, FailReindex
from visualindex.spec.status import Status
from visualindex_operator import children, names, telemetry
from visualindex_operator.announcing import Announce, announce
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.external_home import ExternalHome
from visualindex_operator.failures import Failures, affected
from visualindex_operator.homes import Home, Seen
from visualindex_operator.kube import Kube
from visualindex_operator.kuberay_home import KubeRayHome
from visualindex_operator.kuberay_runs import KubeRayRuns
from visualindex_operator.live import Live, Object
from visualindex_operator.logs import about
from visualindex_operator.members import GroupKey, member
from visualindex_operator.migrating import ensure_migration
from visualindex_operator.observing import job_failure, job_state, observe
from visualindex_operator.probes import Clock, Probes
from visualindex_operator.reindex_runs import ReindexRuns
from visualindex_operator.reindexing import Reindexing
from visualindex_operator.settings import Settings
from visualindex_operator.submitted_runs import SubmittedRuns

logger = logging.getLogger(__name__)

_FAILED_JOB_KEPT = timedelta(minutes=5)


class Reconciler:
    """Brings groups to what their resources say, one group at a time."""

    def __init__(
        self,
        kube: Kube,
        probes: Probes,
        settings: Settings,
        tell: Announce,
        clock: Clock = time.monotonic,
    ) -> None:
        self._kube, self._settings, self._tell = kube, settings, tell
        self.checks = DependencyChecks(kube, probes, clock)
        self._external = ExternalHome(probes, self.checks)
        self._homes: dict[str, Home] = {
            "KubeRay": KubeRayHome(kube, probes, self.checks, settings),
            "External": self._external,
        }
        self._runs: dict[str, ReindexRuns] = {
            "KubeRay": KubeRayRuns(kube, settings),
            "External": SubmittedRuns(self.checks, self._external.clients),
        }
        self._reindexing = Reindexing(self._runs, probes, self.checks, tell)
        self._reported: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self._locks: defaultdict[GroupKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def reconcile(self, key: GroupKey, live: Live) -> None:
        """Look at a group once and do what may be done. Raises KubeError; a repeat is harmless."""
        async with self._locks[key]:
            began = time.monotonic()
            outcome = "failed"
            try:
                await self._reconcile(key, live)
                outcome = "done"
            finally:
                telemetry.RECONCILES.labels(outcome).inc()
                telemetry.RECONCILE_SECONDS.observe(time.monotonic() - began)

    async def _reconcile(self, key: GroupKey, live: Live) -> None:
        namespace, mode, cluster = key
        home = self._homes[mode]
        bodies = {body["metadata"]["name"]: body for body in live.members(*key)}
        members = [self._member(body) for body in bodies.values()]
        alive = [one for one in members if not one.deleting]
        failures = Failures()
        await self._ensure_api_keys(namespace, cluster, alive, bodies, failures)
        seen = await observe(namespace, cluster, alive, live, home, self.checks, self._runs[mode])
        group_plan = plan(members, seen.observed, cluster=cluster, now=datetime.now(UTC))
        await self._forget_jobs(namespace, alive, seen, live)
        written: list[str] = []
        rebuilt: list[str] = []
        for action in group_plan.actions:
            with failures.of(affected(action)):
                if isinstance(action, Migrate):
                    body = bodies[action.index]
                    written += await ensure_migration(
                        self._kube, namespace, cluster, action, body, seen, live, self._settings
                    )
                elif isinstance(action, AskReindex | BeginReindex | EndReindexRun | FailReindex):
                    done = await self._reindexing.carry_out(key, action, bodies[action.index], seen)
                    rebuilt += done  # events about the job tell of it
                else:
                    written += await home.carry_out(namespace, cluster, action, bodies, seen, live)
                telemetry.ACTIONS.labels(type(action).__name__).inc()
        if alive:
            log = about(logger, bodies[alive[0].name])
            for line in (*written, *rebuilt):
                log.info(line)
        for one in alive:
            status = failures.told(one, group_plan.statuses[one.name], self.refusal(namespace, one.name))
            status = self._reindexing.told(namespace, one, status)
            with failures.of([one.name]):
                await self._report(namespace, one, bodies[one.name], status, written)
        failures.raise_first()

    def refusal(self, namespace: str, index: str) -> str:
        """Why an external cluster was last not as wanted for an index; empty when it was, and on KubeRay."""
        return self._external.refusal(namespace, index)

    async def end_reindexes(self, body: Object, key: GroupKey, live: Live) -> None:
        """End what rebuilds a resource that is being deleted. Raises KubeError; a repeat is harmless."""
        one = self._member(body)
        spec = one.spec or applied_spec(one.status)
        if spec is not None:
            await self._reindexing.end_all(key, body, spec, live)

    def forget(self, namespace: str, index: str) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._reindexing.forget(namespace, index)
        self._reported.pop((namespace, index), None)
        self._external.forget(namespace, index)

    async def close(self) -> None:
        """Closes the connections to clusters of others."""
        await self._external.clients.close()

    def _member(self, body: Object) -> Member:
        """The member, with the status that was last written of it where the watch has not shown that yet."""
        version, status = self._reported.get(_place(body), ("", {}))
        fresh = version == body["metadata"].get("resourceVersion")
        return member({**body, "status": status} if fresh else body, self._settings)

    async def _ensure_api_keys(
        self,
        namespace: str,
        cluster: str,
        members: list[Member],
        bodies: Mapping[str, Object],
        failures: Failures,
    ) -> None:
        for one in members:
            if one.spec is None or one.spec.access.keys_secret_ref is not None:
                continue
            name = names.api_keys_secret(one.name)
            with failures.of([one.name]):
                if await self.checks.secret(namespace, name, own=True) is None:
                    await self._kube.create(children.new_api_keys(namespace, cluster, bodies[one.name]))
                    telemetry.WRITES.labels("create", "Secret").inc()
                    self.checks.forget_secret(namespace, name)

    async def _forget_jobs(self, namespace: str, members: list[Member], seen: Seen, live: Live) -> None:
        """Delete jobs that are of no use any more: those of former inputs, and failed ones, which then run again."""
        for one in members:
            inputs = seen.migration_inputs.get(one.name)
            current = names.job(one.name, "migrate", inputs) if inputs else ""
            done = job_state(live.job(namespace, current))[0] == "done"
            for job in live.jobs_of(namespace, one.name):
                name = job["metadata"]["name"]
                former = done and name != current and name.startswith(f"{one.name}-migrate-")
                if former or _failed_long_ago(job):
                    await self._kube.delete("Job", namespace, name)
                    telemetry.WRITES.labels("delete", "Job").inc()

    async def _report(
        self, namespace: str, one: Member, body: Object, status: Status, written: list[str]
    ) -> None:
        for condition in status.conditions:
            value = {"True": 1, "False": 0}.get(condition.status, -1)
            telemetry.CONDITIONS.labels(namespace, one.name, condition.type).set(value)
        document = status_document(status)
        if document != status_document(one.status):
            await self._kube.write_status(namespace, one.name, document)
            telemetry.WRITES.labels("status", "VisualIndex").inc()
            self._reported[_place(body)] = (body["metadata"].get("resourceVersion", ""), document)
        announce(self._tell, body, one, status, written)


def status_document(status: Status) -> dict[str, Any]:
    """The status as the API server keeps it."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _failed_long_ago(job: Object) -> bool:
    if job_state(job)[0] != "failed":
        return False
    since = (job_failure(job) or {}).get("lastTransitionTime")
    return not since or datetime.now(UTC) - datetime.fromisoformat(since) > _FAILED_JOB_KEPT


def _place(body: Object) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]
