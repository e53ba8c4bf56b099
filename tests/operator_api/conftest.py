"""The operator on a real API server, with simulated controllers around it."""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from kubernetes.aio import client, config
from tests.kubernetes.api_server import APPLY, ApiServer
from tests.kubernetes.conftest import defined
from tests.operator_api.namespace import Namespace
from tests.operator_api.process import OperatorProcess
from tests.operator_api.simulation import controllers_running

__all__ = ["defined"]

_RAY = [Path(__file__).parent / f"{kind}-crd.yaml" for kind in ("rayservice", "rayjob")]
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NewNamespace = Callable[[], Awaitable[Namespace]]
NewOperator = Callable[..., OperatorProcess]


@pytest.fixture(scope="session")
def simulated(defined: ApiServer) -> ApiServer:
    """The API server, with a RayService and a RayJob of which nobody but the simulation knows."""
    for definition in (yaml.safe_load(file.read_text()) for file in _RAY):
        path = f"{_DEFINITIONS}/{definition['metadata']['name']}"
        present = defined.request("GET", path)
        label = "visualindex.dev/test"
        if present.status == 200 and label not in present.body["metadata"].get("labels", {}):
            pytest.skip("a KubeRay is installed in this cluster: it would act besides the simulation")
        defined.request("PATCH", path, definition, content_type=APPLY, fieldManager="tests", force="true")
    for listed in ("ray.io/v1/rayservices", "ray.io/v1/rayjobs", "visualindex.dev/v1alpha1/visualindexes"):
        _wait_until_listed(defined, listed)
    return defined


@pytest.fixture
async def api(simulated: ApiServer) -> AsyncIterator[client.ApiClient]:
    """A connection of the test's own."""
    configuration = client.Configuration()
    await config.load_kube_config(str(simulated.kubeconfig), client_configuration=configuration)
    own = client.ApiClient(configuration)
    # Requests that are given up leave their connection to a shutdown that a busy server keeps waiting beyond the test.
    connector = aiohttp.TCPConnector(
        ssl=own.rest_client.ssl_context, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED
    )
    configuration.client_session_kwargs = {"connector": connector}
    yield own
    await own.close()
    await connector.close()


@pytest.fixture
def new_namespace(api: client.ApiClient) -> NewNamespace:
    """Makes namespaces, as many as a test wants. The API server's own end takes them with it."""
    return lambda: Namespace(api, f"op-{secrets.token_hex(5)}").make()


@pytest.fixture
async def namespace(new_namespace: NewNamespace) -> AsyncIterator[Namespace]:
    """A namespace with simulated controllers at work."""
    found = await new_namespace()
    async with controllers_running(found):
        yield found


@pytest.fixture
def new_operator(simulated: ApiServer, namespace: Namespace, tmp_path: Path) -> Iterator[NewOperator]:
    """Makes operators of the namespace; each is ended with the test."""
    made: list[OperatorProcess] = []

    def make(**variables: str) -> OperatorProcess:
        log = tmp_path / f"operator-{len(made)}.log"
        made.append(OperatorProcess(simulated, namespace.name, log, variables))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def operator(new_operator: NewOperator) -> OperatorProcess:
    """An operator that has yet to be started."""
    return new_operator()


def _wait_until_listed(server: ApiServer, resources: str) -> None:
    deadline = time.monotonic() + 60
    while server.request("GET", f"/apis/{resources}").status != 200:
        assert time.monotonic() < deadline, f"the API server did not list {resources} within 60 s"
        time.sleep(0.05)
