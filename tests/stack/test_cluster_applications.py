"""Two indexes with applications of their own on one real Serve, each below its prefix, as on a shared cluster."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.serving.pictures import picture

from visualindex.catalog import EmbeddedPostgres, migrate
from visualindex.client import Client
from visualindex.local.ray_head import RayHead
from visualindex.local.state import StateDir
from visualindex.local.supervisor import Options, Supervisor
from visualindex.serve_config import applications, cluster_config
from visualindex.spec import API_VERSION, KIND, VisualIndex

pytestmark = pytest.mark.stack

PORT = 8450
URL = f"http://127.0.0.1:{PORT}"
READY_S = 180.0


def index(name: str) -> VisualIndex:
    spec = {"profile": "small", "gateway": {"decodeWorkers": 1}}
    return VisualIndex.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[httpx.Client]:
    resources = [index("chairs"), index("lamps")]
    with tempfile.TemporaryDirectory(prefix="vi-cluster-") as folder:
        state = StateDir.at(Path(folder) / "state")
        with state.locked(), httpx.Client(base_url=URL, timeout=30, trust_env=False) as client:
            postgres = EmbeddedPostgres(state.path)
            postgres.start()
            head = _head(state, resources, postgres.dsn)
            try:
                head.start(_config(resources))
                time.sleep(0.1)
                asyncio.run(migrate(postgres.dsn))  # only now: replicas wait for it
                _await_ready(client, [r.name for r in resources])
                yield client
            finally:
                head.kill(keep=frozenset())
                postgres.stop()


def _head(state: StateDir, resources: list[VisualIndex], dsn: str) -> RayHead:
    environment = Supervisor(resources, Options(state.path, port=PORT), print)._environment(dsn)
    return RayHead(state, environment, cpus=4)


def _config(resources: list[VisualIndex]) -> dict[str, object]:
    made = [
        application
        for resource in resources
        for application in applications(
            resource, route_prefix=f"/{resource.name}", environment={}, workers=1, roles=False
        )
    ]
    config = cluster_config(made)
    config["http_options"] |= {"host": "127.0.0.1", "port": PORT}
    return config


def _await_ready(client: httpx.Client, names: list[str]) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            if all(client.get(f"/{name}/readyz").status_code == 200 for name in names):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the indexes did not become ready")


def test_each_index_is_searched_below_its_prefix(cluster: httpx.Client) -> None:
    for name, seed in (("chairs", 1), ("lamps", 2)):
        with Client(f"{URL}/{name}") as client:
            files = {"image": ("p.jpg", picture(seed))}
            assert cluster.post(f"/{name}/api/images", files=files).status_code == 201
            answer = cluster.post(f"/{name}/api/search", files={**files, "consistency": (None, "strong")})
            assert answer.status_code == 200, answer.text
            (hit,) = answer.json()["hits"]
            assert answer.json()["index"] == name
            assert client.file(hit["thumbnails"]["128"])[8:12] == b"WEBP"


def test_a_path_of_no_index_is_not_found(cluster: httpx.Client) -> None:
    for path in ("/", "/api/search", "/tables/api/search"):
        answer = cluster.get(path)
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (404, "not-found")
        assert "retry-after" not in answer.headers


def test_a_method_that_is_not_taken_is_answered_by_the_gateway(cluster: httpx.Client) -> None:
    answer = cluster.put("/chairs/api/search")
    assert answer.json()["detail"] == "/chairs/api/search does not take PUT; use POST."
