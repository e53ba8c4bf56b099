"""A rebuild as a job of a real Ray cluster that somebody else runs: submitted once, followed, ended, and given back."""

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from tests.operator_api.fake_probes import FakeProbes
from tests.reindexing.collection import NAME, Collection, resource_of
from tests.serving.pictures import fresh_database

from visualindex.catalog import APART, PLACE, REINDEX, EmbeddedPostgres, JobRecord, migrate
from visualindex.credentials import Credentials
from visualindex.planning.observations import ReindexRun
from visualindex.planning.reindexing import BeginReindex, run_name
from visualindex.spec import Spec
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.live import Live
from visualindex_operator.serve_clients import ServeClients
from visualindex_operator.submitted_runs import SubmittedRuns

from .real_ray import TOKEN, RealRay, real_ray
from .secrets_in_memory import SecretsInMemory

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]
NOBODY = cast("Live", None)
until = retry(
    retry=retry_if_exception_type(AssertionError),
    stop=stop_after_delay(600),
    wait=wait_fixed(0.3),
    reraise=True,
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="vi-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def ray(folder: Path) -> Iterator[RealRay]:
    with real_ray(
        VISUALINDEX_STATE_DIR=str(folder), VISUALINDEX_NOTICE_DIR=str(folder / "notice")
    ) as running:
        yield running


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres")
    (folder / "postgres").mkdir(exist_ok=True)
    server.start()
    yield server
    server.stop()


class Rebuilding:
    """An index on the cluster, and its runs."""

    def __init__(self, things: Collection, ray: RealRay, folder: Path, **spec: Any) -> None:
        kube = SecretsInMemory()
        kube.put("ray", token=TOKEN)
        hours = itertools.count(step=3600)
        checks = DependencyChecks(kube, FakeProbes(), lambda: float(next(hours)))
        self.clients = ServeClients()
        self.runs = SubmittedRuns(checks, self.clients)
        reference = {"name": "ray", "key": "token"}
        external = {"address": ray.dashboard, "serveUrl": "http://unused:8000", "tokenSecretRef": reference}
        sections = {"storage": {"folder": str(things.root / "objects")}, **spec}
        document = resource_of(**sections).spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        self.spec = Spec.model_validate({**document, "ray": {"mode": "External", "external": external}})
        self.things = things
        self.access = Credentials(things.dsn)

    async def asked(self) -> JobRecord:
        job, _ = await self.things.catalog.request_job(NAME, REINDEX, {PLACE: APART, "attempts": 5})
        return job

    async def begin(self, job: JobRecord, number: int = 1) -> str:
        name = run_name(NAME, str(job.job_id), number)
        action = BeginReindex(NAME, self.spec, name, str(job.job_id), number, 1, 0)
        await self.runs.begin("shop", "cluster", action, {"metadata": {"name": NAME}}, self.access)
        return name

    async def seen(self) -> dict[str, ReindexRun]:
        found = await self.runs.of("shop", NAME, self.spec, NOBODY)
        assert found is not None
        return {run.name: run for run in found}


@pytest.fixture
async def rebuilding(
    postgres: EmbeddedPostgres, ray: RealRay, folder: Path, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Rebuilding]]]:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        async with Collection(dsn, tmp_path, folder / "cache") as things, AsyncExitStack() as closing:

            async def made(images: int, **spec: Any) -> Rebuilding:
                await things.put(*range(images))
                await things.forget()
                one = Rebuilding(things, ray, folder, **spec)
                closing.push_async_callback(one.clients.close)
                return one

            yield made


async def test_a_job_is_submitted_once_and_done_beside_the_service(
    rebuilding: Callable[..., Awaitable[Rebuilding]],
) -> None:
    own = await rebuilding(40)
    job = await own.asked()
    assert await own.things.catalog.claim_job(NAME, 30) is None, "gateways leave it alone"
    name = await own.begin(job)
    begun = (await own.seen())[name].created
    await own.begin(job)
    assert {one.name: one.created for one in (await own.seen()).values()} == {name: begun}, "not twice"

    @until
    async def ended() -> None:
        assert (await own.things.catalog.get_job(NAME, job.job_id)).state not in ("queued", "running")

    await ended()
    found = await own.things.catalog.get_job(NAME, job.job_id)
    assert (found.state, found.problem) == ("done", None)
    assert found.result is not None
    assert found.result["encoded"] == 40

    @until
    async def told() -> None:
        assert (await own.seen())[name].state == "ended"

    await told()
    run = (await own.seen())[name]
    assert (run.job, run.number, run.attempt, run.stage, run.problem) == (
        str(job.job_id),
        1,
        1,
        "SUCCEEDED",
        "",
    )
    assert run.ended is not None
    await own.runs.end("shop", NAME, own.spec, run)
    assert await own.seen() == {}


async def test_a_run_that_is_stopped_gives_its_job_back_and_another_goes_on(
    rebuilding: Callable[..., Awaitable[Rebuilding]],
) -> None:
    own = await rebuilding(400, reindex={"chunkImages": 16})
    job = await own.asked()
    first = await own.begin(job)

    @until
    async def at_work() -> None:
        assert await own.things.catalog.chunk_accounts(job.job_id)

    await at_work()
    await own.runs.end("shop", NAME, own.spec, (await own.seen())[first])

    @until
    async def stopped() -> None:
        assert (await own.seen())[first].state == "ended"

    await stopped()
    before = len(await own.things.catalog.chunk_accounts(job.job_id))
    assert before < 25
    await own.begin(job, 2)

    @until
    async def done() -> None:
        assert (await own.things.catalog.get_job(NAME, job.job_id)).state == "done"

    await done()
    found = await own.things.catalog.get_job(NAME, job.job_id)
    assert found.result is not None
    assert found.result["encoded"] == 400
    assert len(await own.things.catalog.chunk_accounts(job.job_id)) == 25


async def test_a_run_that_cannot_do_its_job_says_why(
    rebuilding: Callable[..., Awaitable[Rebuilding]],
) -> None:
    own = await rebuilding(1)
    job = await own.asked()
    own.access = Credentials("postgresql://nobody@127.0.0.1:1/none")
    name = await own.begin(job)

    @until
    async def failed() -> None:
        assert (await own.seen())[name].state == "ended"

    await failed()
    run = (await own.seen())[name]
    assert run.stage == "FAILED"
    assert "exit code 1" in run.problem
