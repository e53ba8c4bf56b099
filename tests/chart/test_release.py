"""Installing, upgrading, rolling back and uninstalling with Helm's own SDK on a real API server."""

from typing import Any

import helm_python as helm
import pytest
from tests.chart.private_chart import DEFINITIONS, PrivateChart
from tests.chart.rendering import environment
from tests.kubernetes.api_server import ApiServer

RELEASE = "visualindex"
SECRETS = ("visualindex-dev", "visualindex-redis")


def values(namespace: str, **more: Any) -> dict[str, Any]:
    """Everything the chart can install without anyone else's definitions, in one namespace; no image of it exists."""
    operator = {"namespaces": [namespace], **more}
    return {
        "image": {"repository": "image.invalid/visualindex", "pullPolicy": "Never"},
        "operator": operator,
        "redis": {"enabled": True, "image": "image.invalid/redis", "pullPolicy": "Never"},
        "dev": {"enabled": True, "objectStore": {"image": "image.invalid/minio", "pullPolicy": "Never"}},
    }


def log_level(server: ApiServer, namespace: str) -> str:
    """What the installed operator is told."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/visualindex-operator"
    return environment(server.request("GET", path).expect(200))["VISUALINDEX_OPERATOR_LOG_LEVEL"]


def generated(server: ApiServer, namespace: str) -> dict[str, dict[str, str]]:
    """The contents of the Secrets that the chart makes up."""
    return {
        name: server.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}").expect(200)["data"]
        for name in SECRETS
    }


def short_names(server: ApiServer, chart: PrivateChart) -> list[str]:
    body = server.request("GET", f"{DEFINITIONS}/{chart.definition}").expect(200)
    return list(body["spec"]["names"]["shortNames"])


def test_a_release_is_installed_upgraded_and_rolled_back(
    api_server: ApiServer, restricted: str, releases: helm.Config, private_chart: PrivateChart
) -> None:
    install = releases.install(private_chart.path, RELEASE, values(restricted), namespace=restricted)
    assert (install["revision"], install["status"]) == (1, "deployed")
    assert log_level(api_server, restricted) == "info"
    secrets = generated(api_server, restricted)
    assert len({value for data in secrets.values() for value in data.values()}) == 5

    upgraded = releases.upgrade(
        private_chart.path, RELEASE, values(restricted, logLevel="debug"), namespace=restricted
    )
    assert (upgraded["revision"], upgraded["status"]) == (2, "deployed")
    assert log_level(api_server, restricted) == "debug"
    assert generated(api_server, restricted) == secrets

    releases.rollback(RELEASE, version=1)
    assert log_level(api_server, restricted) == "info"
    assert generated(api_server, restricted) == secrets
    assert [each["status"] for each in releases.history(RELEASE)] == ["superseded", "superseded", "deployed"]


def test_the_definition_is_upgraded_and_outlives_the_release(
    api_server: ApiServer, restricted: str, releases: helm.Config, private_chart: PrivateChart
) -> None:
    releases.install(private_chart.path, RELEASE, values(restricted), namespace=restricted)
    assert "vix9" not in short_names(api_server, private_chart)
    private_chart.add_short_name("vix9")
    releases.upgrade(private_chart.path, RELEASE, values(restricted), namespace=restricted)
    assert "vix9" in short_names(api_server, private_chart)

    releases.uninstall(RELEASE)
    assert "vix9" in short_names(api_server, private_chart)
    gone = api_server.request("GET", f"/apis/apps/v1/namespaces/{restricted}/deployments")
    assert gone.expect(200)["items"] == []

    again = releases.install(private_chart.path, RELEASE, values(restricted), namespace=restricted)
    assert again["status"] == "deployed"


def test_peerings_are_what_kopf_writes_its_signs_of_life_into(
    api_server: ApiServer, restricted: str, releases: helm.Config, private_chart: PrivateChart
) -> None:
    private_chart.define_peerings(api_server)
    wanted = {**values(restricted, replicas=2), "peering": {"enabled": True}}
    releases.install(private_chart.path, RELEASE, wanted, namespace=restricted)
    peering = f"/apis/{private_chart.peering_group}/v1/namespaces/{restricted}/kopfpeerings/visualindex"
    api_server.request("GET", peering).expect(200)
    # What kopf does to it: its own key of `status`, which the definition does not name.
    keepalive = {"status": {"someone": {"priority": 100, "lastseen": "2026-01-01T00:00:00Z"}}}
    stored = api_server.request(
        "PATCH", peering, keepalive, content_type="application/merge-patch+json"
    ).expect(200)
    assert stored["status"] == keepalive["status"]


def test_without_peering_its_definitions_stay_away(
    api_server: ApiServer, restricted: str, releases: helm.Config, private_chart: PrivateChart
) -> None:
    releases.install(private_chart.path, RELEASE, values(restricted), namespace=restricted)
    name = f"kopfpeerings.kopf.dev.{private_chart.suffix}"
    assert api_server.request("GET", f"{DEFINITIONS}/{name}").status == 404


@pytest.mark.parametrize("verb", ["list", "delete"])
def test_the_operators_account_may_not_handle_secrets_it_was_not_named(
    api_server: ApiServer, restricted: str, releases: helm.Config, private_chart: PrivateChart, verb: str
) -> None:
    releases.install(private_chart.path, RELEASE, values(restricted), namespace=restricted)
    assert _may(api_server, restricted, restricted, "get")
    assert not _may(api_server, restricted, restricted, verb)
    assert not _may(api_server, restricted, "kube-system", "get")


def _may(server: ApiServer, account: str, namespace: str, verb: str) -> bool:
    """What the API server's authorizer says of the operator's ServiceAccount in a namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{account}:visualindex-operator",
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": "secrets"},
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(server.request("POST", path, review).expect(201)["status"]["allowed"])
