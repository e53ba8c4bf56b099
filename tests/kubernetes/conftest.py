"""The VisualIndex API on a real API server."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.api_server import APPLY, MERGE, Answer, ApiServer

CRD = Path(__file__).parents[2] / "crds" / "visualindexes.visualindex.dev.yaml"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class Indexes:
    """The VisualIndex resources of one namespace; unknown keys are refused, as `kubectl` asks for."""

    server: ApiServer
    namespace: str

    @property
    def path(self) -> str:
        return f"/apis/visualindex.dev/v1alpha1/namespaces/{self.namespace}/visualindexes"

    def try_create(self, document: Any) -> Answer:
        """A creation that is judged and not carried out."""
        return self.server.request("POST", self.path, document, dryRun="All", fieldValidation="Strict")

    def create(self, document: Any) -> dict[str, Any]:
        """The resource as the API server stores it."""
        return self.server.request("POST", self.path, document, fieldValidation="Strict").expect(201)

    def apply(self, document: Any, manager: str) -> Answer:
        """Server-side apply in the name of one field manager."""
        path = f"{self.path}/{document['metadata']['name']}"
        return self.server.request(
            "PATCH", path, document, content_type=APPLY, fieldManager=manager, fieldValidation="Strict"
        )

    def patch(self, name: str, change: Any) -> Answer:
        """A JSON merge patch."""
        return self.server.request(
            "PATCH", f"{self.path}/{name}", change, content_type=MERGE, fieldValidation="Strict"
        )

    def report(self, name: str, status: Any) -> Answer:
        """A merge patch of the status, as the operator writes it."""
        return self.server.request(
            "PATCH", f"{self.path}/{name}/status", {"status": status}, content_type=MERGE, fieldValidation="Strict"
        )  # fmt: skip

    def get(self, name: str) -> dict[str, Any]:
        return self.server.request("GET", f"{self.path}/{name}").expect(200)


@pytest.fixture(scope="session")
def defined(api_server: ApiServer) -> ApiServer:
    """The API server, with this tree's definition of VisualIndex."""
    document = yaml.safe_load(CRD.read_text())
    path = f"{_DEFINITIONS}/{document['metadata']['name']}"
    applied = api_server.request(
        "PATCH", path, document, content_type=APPLY, fieldManager="tests", force="true", fieldValidation="Strict"
    )  # fmt: skip
    assert applied.status in (200, 201), applied.message
    _wait_until_served(api_server, document)
    return api_server


@pytest.fixture
def indexes(defined: ApiServer, namespace: str) -> Indexes:
    return Indexes(defined, namespace)


def _wait_until_served(server: ApiServer, document: Any) -> None:
    """Until requests are judged by this very definition: one before it may have been there."""
    [version] = document["spec"]["versions"]
    wanted = _judging(version["schema"]["openAPIV3Schema"])
    deadline = time.monotonic() + 60
    while _published(server) != wanted:
        assert time.monotonic() < deadline, "the API server did not serve this VisualIndex within 60 s"
        time.sleep(0.05)


def _published(server: ApiServer) -> Any:
    answer = server.request("GET", "/openapi/v3/apis/visualindex.dev/v1alpha1")
    schemas = answer.body.get("components", {}).get("schemas", {})
    return _judging(schemas.get("dev.visualindex.v1alpha1.VisualIndex", {}))


def _judging(schema: Any) -> tuple[Any, Any]:
    """What specs are judged by."""
    return schema.get("properties", {}).get("spec"), schema.get("x-kubernetes-validations")
