"""What tests of several areas share: one real Kubernetes API server for the whole run."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the Kubernetes client is slow to import, and most tests need none
    from tests.kubernetes.api_server import ApiServer


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["ApiServer"]:
    """The cluster of KUBECONFIG, or else an API server of the run's own, without nodes and controllers."""
    from tests.kubernetes.api_server import ApiServer, find_binaries, running

    if os.environ.get("KUBECONFIG"):
        yield ApiServer(Path(os.environ["KUBECONFIG"]))
        return
    binaries = find_binaries()
    if binaries is None:
        message = (
            "no Kubernetes: set KUBECONFIG, or KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with running(tmp_path_factory.mktemp("api-server"), binaries) as server:
        yield server


@pytest.fixture
def namespace(api_server: "ApiServer") -> Iterator[str]:
    """The name of a namespace of the test's own."""
    name = f"test-{secrets.token_hex(5)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api_server.request("POST", "/api/v1/namespaces", body).expect(201)
    yield name
    api_server.request("DELETE", f"/api/v1/namespaces/{name}").expect(200)
