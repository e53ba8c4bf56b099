"""A copy of the chart whose API groups belong to one test, so that nothing of the cluster's own is touched."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import helm_python as helm
import pytest
from tests.chart.private_chart import PrivateChart
from tests.chart.rendering import CHART
from tests.kubernetes.api_server import ApiServer


@pytest.fixture
def private_chart(api_server: ApiServer, tmp_path: Path) -> Iterator[PrivateChart]:
    """The chart under groups of its own; what it leaves cluster-wide is deleted after the test."""
    chart = PrivateChart(shutil.copytree(CHART, tmp_path / "visualindex"), f"t{secrets.token_hex(4)}.test")
    chart.make_private()
    yield chart
    chart.delete_definitions(api_server)


@pytest.fixture
def restricted(api_server: ApiServer, namespace: str) -> str:
    """A namespace in which only pods of the restricted Pod Security Standard are admitted."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    change = {"metadata": {"labels": labels}}
    api_server.request(
        "PATCH", f"/api/v1/namespaces/{namespace}", change, content_type="application/merge-patch+json"
    ).expect(200)
    return namespace


@pytest.fixture
def releases(api_server: ApiServer, restricted: str) -> Iterator[helm.Config]:
    """Helm, in that namespace; a release that is left over is uninstalled."""
    with helm.Config(kubeconfig_path=api_server.kubeconfig, namespace=restricted) as config:
        yield config
        for release in config.list():
            config.uninstall(release["name"])
