"""Runs of rebuilds by the job API of a cluster of others: begun once, told rightly, and every refusal with its cause."""

import itertools
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from tests.operator_api.fake_probes import FakeProbes

from visualindex.credentials import Credentials
from visualindex.planning.observations import ReindexRun
from visualindex.planning.reindexing import BeginReindex
from visualindex.spec import Spec
from visualindex_operator import names
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.live import Live
from visualindex_operator.reindex_runs import RunRefused
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_clients import ServeClients
from visualindex_operator.serve_merge import OWNER
from visualindex_operator.serve_problems import ClusterRefused
from visualindex_operator.submitted_runs import SubmittedRuns
from visualindex_operator.submitting import submitted_once

from .conftest import TOKEN
from .secrets_in_memory import SecretsInMemory
from .simulated_serve import Fault, SimulatedServe

NOBODY = cast("Live", None)
RUN, JOB = "chairs-reindex-7e2f0000-1", "7e2f0000-0000-4000-8000-000000000000"
PASSWORD = "hunter222"


class Rebuilds:
    """Those of one index."""

    def __init__(self, cluster: SimulatedServe) -> None:
        kube = SecretsInMemory()
        kube.put("ray", token=TOKEN)
        hours = itertools.count(step=3600)
        self.clients = ServeClients()
        checks = DependencyChecks(kube, FakeProbes(), lambda: float(next(hours)))
        self.runs = SubmittedRuns(checks, self.clients)
        reference = {"name": "ray", "key": "token"}
        external = {"address": cluster.url, "serveUrl": "http://unused:8000", "tokenSecretRef": reference}
        self.spec = Spec.model_validate({"ray": {"mode": "External", "external": external}})

    async def begin(self, chunks: int = 0, index: str = "chairs") -> list[str]:
        action = BeginReindex(index, self.spec, RUN, JOB, 1, 1, chunks)
        access = Credentials(f"postgresql://u:{PASSWORD}@db/x")
        return await self.runs.begin("shop", "cluster", action, {}, access)

    async def only(self) -> ReindexRun:
        (found,) = await self.runs.of("shop", "chairs", self.spec, NOBODY)
        return found

    async def end(self) -> list[str]:
        return await self.runs.end("shop", "chairs", self.spec, await self.only())


@pytest.fixture
async def rebuilds(cluster: SimulatedServe) -> AsyncIterator[Rebuilds]:
    made = Rebuilds(cluster)
    yield made
    await made.clients.close()


async def test_a_run_is_begun_once_however_often_it_is_asked_for(
    rebuilds: Rebuilds, cluster: SimulatedServe
) -> None:
    assert await rebuilds.begin() == [f"submitted job {RUN}"]
    assert await rebuilds.begin(chunks=3) == [], "what was counted meanwhile makes it no other run"
    run = await rebuilds.only()
    assert (run.name, run.job, run.number, run.state, run.stage) == (RUN, JOB, 1, "running", "RUNNING")
    assert cluster.jobs.jobs[RUN]["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "120"


async def test_a_cluster_whose_agent_is_not_there_yet_is_asked_again(
    rebuilds: Rebuilds, cluster: SimulatedServe
) -> None:
    cluster.fail_next(Fault.NO_AGENT)
    assert await rebuilds.begin() == [f"submitted job {RUN}"]
    assert cluster.calls == ["POST", "GET", "POST"]


async def test_a_cluster_that_goes_on_failing_is_told_in_its_own_words(
    rebuilds: Rebuilds, cluster: SimulatedServe
) -> None:
    for number in range(1, 9):
        cluster.faults[number] = Fault.NO_AGENT
    with pytest.raises(RunRefused, match=r"status 500: No available agent.*dashboard\*\.log") as caught:
        await rebuilds.begin()
    assert cluster.url in str(caught.value)
    cluster.fail_next(Fault.ERROR)
    with pytest.raises(RunRefused, match=r"status 500: ray\.exceptions\.X: no"):
        await rebuilds.only()


async def test_a_submission_whose_answer_is_lost_counts(cluster: SimulatedServe) -> None:
    cluster.jobs.lost.add(RUN)
    metadata = {OWNER: "shop/chairs", names.JOB: JOB}
    async with ServeAPI(cluster.url, TOKEN, write_s=0.3) as api:
        job = {"submission_id": RUN, "entrypoint": "python", "runtime_env": {}, "metadata": metadata}
        assert await submitted_once(api, job) is False
    assert list(cluster.jobs.jobs) == [RUN]


async def test_a_name_that_somebody_else_has_is_refused(rebuilds: Rebuilds, cluster: SimulatedServe) -> None:
    cluster.jobs.jobs[RUN] = {"submission_id": RUN, "status": "RUNNING", "metadata": None}
    with pytest.raises(RunRefused, match=rf"has a job {RUN} that is not this operator's: delete it"):
        await rebuilds.begin()


async def test_what_the_agent_refuses_is_a_refusal_with_its_reason(
    rebuilds: Rebuilds, cluster: SimulatedServe
) -> None:
    cluster.jobs.refuses = f"env_vars must be strings, not postgresql://u:{PASSWORD}@db/x"
    with pytest.raises(RunRefused, match=r"refuses.*ValueError: env_vars must be strings") as caught:
        await rebuilds.begin()
    assert isinstance(caught.value.__cause__, ClusterRefused)
    assert PASSWORD not in str(caught.value)
    assert cluster.calls == ["POST", "GET"], "a refusal is not tried again"


@pytest.mark.parametrize(("status", "problem"), [("SUCCEEDED", ""), ("STOPPED", "")])
async def test_an_end_is_told(rebuilds: Rebuilds, cluster: SimulatedServe, status: str, problem: str) -> None:
    await rebuilds.begin()
    cluster.jobs.ends(RUN, status)
    run = await rebuilds.only()
    assert (run.state, run.stage, run.problem) == ("ended", status, problem)
    assert run.ended is not None


async def test_a_failure_is_told_with_the_end_of_its_log(rebuilds: Rebuilds, cluster: SimulatedServe) -> None:
    await rebuilds.begin()
    log = "INFO it goes on\n" * 200 + "error: the database db:5432 cannot be reached"
    cluster.jobs.ends(RUN, "FAILED", f"Job entrypoint command failed with exit code 1, last logs:\n{log}")
    run = await rebuilds.only()
    assert run.problem.startswith("Job entrypoint command failed with exit code 1, last logs:")
    assert run.problem.endswith("error: the database db:5432 cannot be reached")
    assert len(run.problem) < 400


async def test_a_run_is_stopped_then_forgotten_and_what_is_gone_is_gone(
    rebuilds: Rebuilds, cluster: SimulatedServe
) -> None:
    await rebuilds.begin()
    running = await rebuilds.only()
    assert await rebuilds.end() == [f"stopped job {RUN}"]
    ended = await rebuilds.only()
    assert (ended.state, ended.stage) == ("ended", "STOPPED")
    assert await rebuilds.end() == []
    assert await rebuilds.runs.of("shop", "chairs", rebuilds.spec, NOBODY) == []
    for gone in (running, ended):
        await rebuilds.runs.end("shop", "chairs", rebuilds.spec, gone)


async def test_runs_of_other_indexes_are_not_told(rebuilds: Rebuilds, cluster: SimulatedServe) -> None:
    other: dict[str, Any] = {OWNER: "shop/tables"}
    cluster.jobs.jobs["tables-1"] = {"submission_id": "tables-1", "status": "RUNNING", "metadata": other}
    cluster.jobs.jobs["a"] = {"submission_id": "a", "status": "RUNNING", "metadata": None}
    assert await rebuilds.runs.of("shop", "chairs", rebuilds.spec, NOBODY) == []
