"""One cluster, one namespace and one release for the whole story; what it measured is printed at the end."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from benchmarks.cluster import Cluster, KubectlError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/visualindex"
EXAMPLE = ROOT / "examples/kubernetes/trial.yaml"
RELEASE = "visualindex"
INDEX = "furniture"
ACCESS = "furniture-access"
long = pytest.mark.skipif(
    os.environ.get("VISUALINDEX_E2E_SHORT") == "1", reason="left out of the short story"
)
_report: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The story needs a cluster with KubeRay and images in it: `make e2e` sees to that."""
    if os.environ.get("VISUALINDEX_E2E") != "1":
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.skip(reason="needs a cluster: make e2e"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was measured."""
    for line in _report:
        terminalreporter.write_line(line)


@dataclass
class Story:
    """What the steps share."""

    cluster: Cluster
    short: bool
    pictures: Path
    seen: dict[str, Any] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """A line of the report."""
        _report.append(line)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A namespace that admits restricted pods only; it is gone afterwards, unless VISUALINDEX_E2E_KEEP is set."""
    cluster = Cluster(f"e2e-{secrets.token_hex(3)}")
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": cluster.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    cluster.apply(namespace)
    short = os.environ.get("VISUALINDEX_E2E_SHORT") == "1"
    yield Story(cluster, short, tmp_path_factory.mktemp("pictures"))
    if not os.environ.get("VISUALINDEX_E2E_KEEP"):
        _clear_away(cluster)


def _clear_away(cluster: Cluster) -> None:
    """Ray clusters go while their Redis is there: KubeRay clears it before it lets them go."""
    try:
        cluster.kubectl("delete", "visualindexes", "--all", "--timeout=120s")
    except KubectlError:  # their operator is not there to let them go
        for one in cluster.items("visualindexes"):
            cluster.patch("visualindex", one["metadata"]["name"], {"metadata": {"finalizers": None}})
    cluster.kubectl("delete", "rayservices", "--all", "--timeout=180s")
    cluster.kubectl("wait", "--for=delete", "rayclusters", "--all", "--timeout=180s")
    cluster.kubectl("delete", "namespace", cluster.namespace, "--timeout=240s")


@pytest.fixture(scope="module")
def releases(story: Story) -> Iterator[helm.Config]:
    """Helm in the story's namespace."""
    kubeconfig = os.environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser()
    with helm.Config(kubeconfig_path=kubeconfig, namespace=story.cluster.namespace) as config:
        yield config


def image(variable: str, default: str) -> tuple[str, str]:
    """Repository and tag of an image that was given to the cluster."""
    repository, _, tag = os.environ.get(variable, default).rpartition(":")
    return repository, tag


def values(story: Story, **operator: Any) -> dict[str, Any]:
    """Everything that the chart installs for a trial, and Redis, with small requests: two cores are enough."""
    repository, tag = image("VISUALINDEX_E2E_IMAGE", "localhost/visualindex:e2e")
    small = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    return {
        "image": {"repository": repository, "tag": tag},
        "crds": {"install": story.seen["installs_definition"]},
        "operator": {"namespaces": [story.cluster.namespace], **operator},
        "redis": {"enabled": True, **_named("VISUALINDEX_E2E_REDIS")},
        "dev": {"enabled": True, "resources": small, "objectStore": _named("VISUALINDEX_E2E_MINIO")},
    }


def _named(variable: str) -> dict[str, Any]:
    return {"image": os.environ[variable]} if os.environ.get(variable) else {}


def example() -> dict[str, Any]:
    """The example for trials. Its pods ask for less CPU, and its secrets are in a Secret that the story can change."""
    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    document["spec"]["ray"]["head"]["cpu"] = "100m"
    document["spec"]["ray"]["workers"]["cpu"] = "200m"
    small = {"cpu": "100m", "memory": "1536Mi"}
    document["spec"]["reindex"] = {
        "placement": "Job",
        "workers": 2,
        "decodeWorkers": 1,
        "chunkImages": 1,  # a worker is to be lost in the middle
        "cluster": {"head": {"cpu": "100m", "memory": "2560Mi"}, "workers": small, "keepSeconds": 0},
    }
    document["spec"]["postgres"]["dsnSecretRef"]["name"] = ACCESS
    document["spec"]["storage"]["s3"]["credentialsSecretRef"] = ACCESS
    return document
