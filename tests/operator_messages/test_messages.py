"""What the operator says where something is wrong names the cause and the remedy, and holds no secret."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kubernetes.aio import client, config
from tests.kubernetes.api_server import ApiServer as Server
from tests.kubernetes.api_server import find_binaries, running

from visualindex.credentials import Credentials
from visualindex.planning.conditions import Reason
from visualindex.planning.observations import GroupObserved, Member, Serving
from visualindex.planning.plan import Serve, Served
from visualindex.planning.shape import cluster_shape, resolved
from visualindex.spec import Spec
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.homes import Seen, Standing
from visualindex_operator.kube import ApiServer
from visualindex_operator.kuberay_home import KubeRayHome
from visualindex_operator.live import Object
from visualindex_operator.probes import LiveProbes
from visualindex_operator.settings import Settings
from visualindex_operator.trouble import trouble


def test_a_failed_application_is_told_by_what_failed_in_it() -> None:
    failed = (
        "DEPLOY_FAILED",
        "Traceback …\n  secret = 'geheim'\nFileNotFoundError: no weights at s3://models/x",
    )
    deployments = {"encoder": failed, "shard-0": ("HEALTHY", "fine")}
    told = trouble(
        "index-shop", "DEPLOY_FAILED", "Failed to update the deployments ['encoder'].", deployments
    )
    assert told == "index-shop is DEPLOY_FAILED: encoder: FileNotFoundError: no weights at s3://models/x"


def test_without_a_deployment_to_blame_rays_own_words_are_told() -> None:
    assert trouble("gateway-shop", "DEPLOYING", "building", {}) == "gateway-shop is DEPLOYING: building"
    assert trouble("gateway-shop", "", "", {"gateway": ("UPDATING", "")}) == "gateway-shop is not started"


@pytest.fixture
async def probes() -> AsyncIterator[LiveProbes]:
    found = LiveProbes()
    yield found
    await found.close()


async def test_a_connection_string_that_cannot_be_read_is_not_repeated(probes: LiveProbes) -> None:
    told = await probes.database("postgres//shop:geheim@db/shop", "shop")
    assert isinstance(told, str)
    assert "cannot be read: write postgresql://" in told
    assert "geheim" not in told


async def test_a_database_that_does_not_answer_is_told_with_what_to_check(probes: LiveProbes) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        told = await probes.database(
            f"postgresql://shop:geheim@127.0.0.1:{unused.getsockname()[1]}/shop", "shop"
        )
    assert isinstance(told, str)
    assert "check that it runs and the host and port" in told
    assert "geheim" not in told


class Empty:
    """A look at an API server that has none of our objects."""

    def members(self, namespace: str, mode: str, cluster: str) -> list[Object]:
        return []

    def ray_service(self, namespace: str, name: str) -> Object | None:
        return None

    def job(self, namespace: str, name: str) -> Object | None:
        return None

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        return []

    def child(self, kind: str, namespace: str, name: str) -> Object | None:
        return None

    def children(self, kind: str, namespace: str, cluster: str) -> list[Object]:
        return []


@pytest.fixture
def without_kuberay(tmp_path: Path) -> Iterator[Server]:
    """An API server of the test's own: other tests bring KubeRay's definitions to the shared one."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no etcd and kube-apiserver: set KUBEBUILDER_ASSETS")
    with running(tmp_path, binaries) as server:
        yield server


@pytest.fixture
async def kube(without_kuberay: Server) -> AsyncIterator[ApiServer]:
    await config.load_kube_config(config_file=str(without_kuberay.kubeconfig))
    found = ApiServer(client.ApiClient())
    yield found
    await found.close()


async def test_a_cluster_without_kuberay_is_a_condition_and_no_failure(
    kube: ApiServer, probes: LiveProbes
) -> None:
    settings = Settings()
    home = KubeRayHome(kube, probes, DependencyChecks(kube, probes), settings)
    spec = resolved(Spec(), "visualindex:dev")
    served = Served("shop", spec, "/", True)
    seen = Seen(GroupObserved({}), Standing({}), {"shop": Credentials("postgresql://db/shop")}, {})
    owner = {"metadata": {"name": "shop", "namespace": "default", "uid": "7f3c"}}
    serve = Serve((served,), cluster_shape([served.resource]))

    before = await standing(home)
    written = await home.carry_out("default", "shop", serve, {"shop": owner}, seen, Empty())
    after = await standing(home)

    assert before.reason == ""
    assert "applied RayService shop" not in written
    assert after.reason == Reason.KUBERAY_MISSING
    assert "install KubeRay's operator" in after.message


async def standing(home: KubeRayHome) -> Serving:
    """How the index `shop` stands."""
    member = Member("shop", 1, datetime.now(UTC), Spec())
    return (await home.look("default", "shop", [member], Empty())).serving["shop"]
