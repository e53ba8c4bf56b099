"""A real API server takes what the chart renders, and admits its pods where only restricted ones are admitted."""

from typing import Any

import pytest
from tests.chart.rendering import Document, kinds, pods, render
from tests.chart.value_sets import VALUE_SETS
from tests.kubernetes.api_server import APPLY, Answer, ApiServer

FOREIGN = {"PodMonitor", "HTTPRoute", "Gateway", "KopfPeering", "ClusterKopfPeering"}
"""Kinds whose definitions come with the software that reads them."""


def try_apply(server: ApiServer, document: Document, namespace: str) -> Answer:
    """A server-side apply that is judged, admission included, and not carried out."""
    group = document["apiVersion"]
    root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
    resources = server.request("GET", root).expect(200)["resources"]
    resource = next(
        each for each in resources if each["kind"] == document["kind"] and "/" not in each["name"]
    )
    place = f"/namespaces/{namespace}" if resource["namespaced"] else ""
    name = document["metadata"]["name"]
    return server.request(
        "PATCH", f"{root}{place}/{resource['name']}/{name}", document, content_type=APPLY,
        fieldManager="chart-tests", fieldValidation="Strict", force="true", dryRun="All",
    )  # fmt: skip


def renamed(document: Document, namespace: str) -> Document:
    """The object in the test's namespace, whichever it was meant for."""
    metadata = document["metadata"]
    if "namespace" in metadata:
        metadata = {**metadata, "namespace": namespace}
    return {**document, "metadata": metadata}


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_an_api_server_takes_every_object(
    api_server: ApiServer, namespace: str, values: dict[str, Any]
) -> None:
    documents = render(values, namespace=namespace)
    for document in documents:
        if document["kind"] not in FOREIGN | {"Pod"}:
            answer = try_apply(api_server, renamed(document, namespace), namespace)
            assert answer.status in (200, 201), f"{document['kind']}: {answer.message}"
    assert "Deployment" in kinds(documents)


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_every_pod_is_admitted_under_the_restricted_standard(
    api_server: ApiServer, restricted: str, values: dict[str, Any]
) -> None:
    admitted = []
    for name, pod in pods(render(values, namespace=restricted)):
        account = pod["spec"].get("serviceAccountName", "default")
        _make_service_account(api_server, restricted, account)
        metadata = {"name": name, "namespace": restricted, "labels": pod["metadata"]["labels"]}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
        answer = api_server.request(
            "POST", f"/api/v1/namespaces/{restricted}/pods", document, dryRun="All", fieldValidation="Strict"
        )
        assert answer.status == 201, f"{name}: {answer.message}"
        admitted.append(name)
    assert admitted


def test_the_namespace_would_refuse_another_pod(api_server: ApiServer, restricted: str) -> None:
    _make_service_account(api_server, restricted, "default")
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "careless"},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }
    answer = api_server.request("POST", f"/api/v1/namespaces/{restricted}/pods", document, dryRun="All")
    assert answer.status == 403
    assert "restricted" in answer.message


def _make_service_account(server: ApiServer, namespace: str, name: str) -> None:
    """A pod is refused without its account, and the controller that makes `default` takes a moment."""
    body = {"metadata": {"name": name}}
    created = server.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body)
    assert created.status in (201, 409), created.message
