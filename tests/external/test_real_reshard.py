"""A real Ray cluster of others, real shards and gateways: one shard becomes two while searches go on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.steady import searches, told
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from tests.catalog.scene import create_database
from tests.postgres import running_postgres
from tests.serving.pictures import picture

from visualindex.catalog import EmbeddedPostgres, migrate
from visualindex.credentials import Credentials
from visualindex.planning.shape import as_resource
from visualindex.spec import Spec
from visualindex_operator.cluster_locks import ClusterLocks
from visualindex_operator.external_layouts import Layouts
from visualindex_operator.external_serving import serving
from visualindex_operator.serve_api import TOKEN_HEADER, ServeAPI
from visualindex_operator.serve_converge import converge
from visualindex_operator.serve_merge import OWNER

from .real_ray import TOKEN, RealRay, real_ray

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

CHAIRS = "shop/chairs"
_MIB = 1024**2
_LOOK_S = 0.5


@pytest.fixture(scope="module")
def ray() -> Iterator[RealRay]:
    with real_ray() as running:
        yield running


@pytest.fixture
def postgres() -> Iterator[EmbeddedPostgres]:
    with running_postgres() as server:
        yield server


class Operator:
    """Looks and writes as the operator does, and remembers nothing in between."""

    def __init__(self, ray: RealRay, dsn: str, state: Path) -> None:
        self._dashboard, self._locks = ray.dashboard, ClusterLocks()
        local = {"VISUALINDEX_MODE": "local", "VISUALINDEX_LISTEN_HOST": "127.0.0.1"}
        folder = {"VISUALINDEX_STATE_DIR": str(state), "OMP_NUM_THREADS": "1"}
        self._environment = {**Credentials(dsn).environment(), OWNER: CHAIRS, **local, **folder}
        self.steps: list[dict[str, str]] = []

    async def serve(self, shards: int) -> None:
        """Look and write until nothing is left to do."""
        index = {"shards": shards, "memory_per_shard": 64 * _MIB, "replicas": 2}
        limits = {"search_timeout_ms": 6000}  # how fast the machine is, is not the question
        resource = as_resource("chairs", Spec.model_validate({"index": index, "limits": limits}))
        async with ServeAPI(self._dashboard, TOKEN) as api:
            while True:
                state = await api.read()
                layouts = Layouts(state, CHAIRS, resource, "/chairs", self._environment)
                await converge(api, self._locks, layouts.wanted(), layouts.gone())
                state = await api.read()
                step = {name: app.status for name, app in state.applications.items()}
                if step not in self.steps[-1:]:
                    self.steps.append(step)
                if serving(state, "chairs", CHAIRS, "", None).settled:
                    return
                await asyncio.sleep(_LOOK_S)


@retry(
    retry=retry_if_exception_type(httpx.TransportError),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.5),
    reraise=True,
)
def _put_port(ray: RealRay) -> None:
    """The owner of the cluster has chosen where Serve listens."""
    config = {"http_options": {"host": "127.0.0.1", "port": ray.serve_port}, "applications": []}
    headers = {TOKEN_HEADER: f"Bearer {TOKEN}"}
    url = f"{ray.dashboard}/api/serve/applications/"
    httpx.put(url, json=config, headers=headers, timeout=90, trust_env=False).raise_for_status()


async def _write(url: str, count: int) -> list[str]:
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        answers = [
            await client.post("/api/images", files={"image": ("p", picture(number))})
            for number in range(count)
        ]
    return [str(answer.raise_for_status().json()["image_id"]) for answer in answers]


async def _found(url: str, image_id: str) -> bool:
    query: dict[str, Any] = {"query": {"image_id": image_id}, "include_self": True, "consistency": "strong"}
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        answer = await client.post("/api/search", json=query)
    return image_id in [hit["image_id"] for hit in answer.raise_for_status().json()["hits"]]


async def test_one_shard_becomes_two_and_no_search_fails(
    ray: RealRay, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    dsn = create_database(postgres)
    await migrate(dsn)
    _put_port(ray)
    operator = Operator(ray, dsn, tmp_path)
    await operator.serve(1)
    url = f"http://127.0.0.1:{ray.serve_port}/chairs"
    written = await _write(url, 12)
    with searches(url, "", 2) as outcomes:
        operator.steps.clear()
        await operator.serve(2)
    print(len(outcomes), "searches, failed", told(outcomes), *operator.steps, sep="\n")  # noqa: T201 - what was seen
    assert len(outcomes) > 0
    assert [one for one in outcomes if not one.ok] == [], told(outcomes)
    left = {name for name, state in operator.steps[-1].items() if state != "DELETING"}
    assert left == {"index-chairs", "gateway-chairs"}
    assert any("shards-chairs-2" in step for step in operator.steps)
    assert all([await _found(url, image_id) for image_id in written])
