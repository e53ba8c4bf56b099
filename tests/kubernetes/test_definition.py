"""The definition as the API server serves it: columns, status, field managers, `kubectl explain`."""

import os
import shutil
import subprocess
import time
from typing import Any

import pytest
import yaml
from tests.kubernetes.api_server import TABLE, ApiServer
from tests.kubernetes.conftest import CRD, Indexes
from tests.kubernetes.documents import resource

from visualindex.spec.crd import document, resource_schema
from visualindex.spec.status import (
    Condition,
    EncoderStatus,
    Endpoints,
    Footprint,
    GenerationStatus,
    Plan,
    Status,
)

STATUS = {
    "images": 12,
    "generation": {"id": "g7", "recall": "0.987"},
    "endpoints": {"search": "http://shop-serve-svc:8000"},
    "cluster": "shop",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "SearchAnswers",
            "message": "It answers.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-24T10:00:00Z",
        }
    ],
}


def test_the_file_is_not_stale() -> None:
    hint = f"{CRD.name} is stale: run `python -m visualindex.spec.crd > crds/{CRD.name}`"
    assert CRD.read_text() == document(), hint


def test_the_file_fits_into_the_annotation_of_a_client_side_apply() -> None:
    assert CRD.stat().st_size < 256 * 1024


def nodes(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every field below a schema, with its path."""
    below = {f"{path}.{key}": value for key, value in schema.get("properties", {}).items()}
    below |= {f"{path}[]": schema[key] for key in ("items",) if key in schema}
    return [(path, schema), *(found for place, node in below.items() for found in nodes(node, place))]


def test_every_field_is_explained() -> None:
    silent = [
        path
        for path, node in nodes(resource_schema())
        if "description" not in node and path != ".metadata" and not path.endswith("[]")
    ]
    assert silent == []


def test_every_list_says_how_appliers_share_it() -> None:
    lists = {
        path: node["x-kubernetes-list-type"]
        for path, node in nodes(resource_schema())
        if node.get("type") == "array"
    }
    assert lists.pop(".status.conditions") == "map"
    assert set(lists.values()) == {"atomic"}


def test_every_secret_reference_is_one_value() -> None:
    references = {
        path: node.get("x-kubernetes-map-type")
        for path, node in nodes(resource_schema())
        if set(node.get("properties", ())) == {"name", "key"}
    }
    assert ".spec.postgres.dsnSecretRef" in references
    assert set(references.values()) == {"atomic"}


def test_an_established_definition_has_a_structural_schema(defined: ApiServer) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/visualindexes.visualindex.dev"
    found = defined.request("GET", path).expect(200)
    conditions = {item["type"]: item["status"] for item in found["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert "scale" not in found["spec"]["versions"][0]["subresources"]


def test_columns_show_what_one_asks_first(indexes: Indexes) -> None:
    indexes.create(resource())
    indexes.report("shop", STATUS).expect(200)
    table = indexes.server.request("GET", indexes.path, accept=TABLE).expect(200)
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [
        ("Name", 0),
        ("Ready", 0),
        ("Images", 0),
        ("Generation", 0),
        ("Recall", 0),
        ("Age", 0),
        ("Reason", 1),
        ("Search", 1),
        ("Cluster", 1),
    ]
    [cells] = [row["cells"] for row in table["rows"]]
    assert cells[:5] == ["shop", "True", 12, "g7", "0.987"]
    assert cells[6:] == ["SearchAnswers", "http://shop-serve-svc:8000", "shop"]


def test_status_is_written_beside_the_spec(indexes: Indexes) -> None:
    indexes.create(resource())
    indexes.patch("shop", {"status": {"images": 5}, "spec": {"profile": "small"}}).expect(200)
    changed = indexes.report("shop", {"images": 12}).expect(200)
    assert (changed["status"], changed["spec"]["profile"]) == ({"images": 12}, "small")
    assert changed["metadata"]["generation"] == 2


def test_everything_the_operator_can_say_is_stored_as_said(indexes: Indexes) -> None:
    said = Status(
        observed_generation=3,
        conditions=[
            Condition(
                type="UpgradeBlocked",
                status="True",
                reason="GpuBudget",
                message="Two clusters do not fit.",
                observed_generation=3,
                last_transition_time="2026-11-24T10:00:00Z",
            )
        ],
        images=0,
        endpoints=Endpoints(search="http://shop:8000", dashboard="http://shop-head-svc:8265"),
        encoder=EncoderStatus(fingerprint="f" * 64, dimension=256),
        generation=GenerationStatus(id="g1", recall="1.000"),
        cluster="shop",
        postgres_connections=12,
        plan=Plan(
            id="p1", change="Recreate", state="Blocked", summary=["one", "two"], before=Footprint(pods=3)
        ),
        applied={"encoder": {"family": "timm", "nested": [{"a": None}]}},
    )
    indexes.create(resource())
    stored = indexes.report("shop", said.model_dump(mode="json", by_alias=True)).expect(200)["status"]
    assert Status.model_validate(stored).model_dump(exclude={"applied"}) == said.model_dump(
        exclude={"applied"}
    )
    assert stored["applied"]["encoder"]["family"] == "timm"


def test_the_words_of_a_newer_operator_are_stored(indexes: Indexes) -> None:
    newer = {"type": "Rebalancing", "status": "True", "reason": "ShardsMove"}
    indexes.create(resource())
    stored = indexes.report("shop", {"conditions": [newer]}).expect(200)
    assert stored["status"]["conditions"] == [newer]


def test_one_condition_is_applied_beside_those_of_others(indexes: Indexes) -> None:
    indexes.create(resource())
    indexes.report("shop", STATUS).expect(200)
    paused = {"type": "Paused", "status": "False", "reason": "NotPaused"}
    body = {**resource(), "status": {"conditions": [paused]}}
    del body["spec"]
    merged = indexes.server.request(
        "PATCH", f"{indexes.path}/shop/status", body, content_type="application/apply-patch+yaml",
        fieldManager="another", fieldValidation="Strict",
    ).expect(200)  # fmt: skip
    assert [condition["type"] for condition in merged["status"]["conditions"]] == ["Ready", "Paused"]


def test_two_managers_own_different_parts(indexes: Indexes) -> None:
    indexes.apply(resource(encoder={"dimension": 128}), "team").expect(201)
    both = indexes.apply(resource(gateway={"replicas": 5}), "scaler").expect(200)
    assert (both["spec"]["encoder"]["dimension"], both["spec"]["gateway"]["replicas"]) == (128, 5)
    conflict = indexes.apply(resource(gateway={"replicas": 3}), "team")
    assert conflict.status == 409
    assert 'conflict with "scaler"' in conflict.message
    kept = indexes.apply(resource(encoder={"dimension": 256}), "team").expect(200)
    assert (kept["spec"]["encoder"]["dimension"], kept["spec"]["gateway"]["replicas"]) == (256, 5)


def test_an_applied_list_replaces_the_default_one(indexes: Indexes) -> None:
    """A merged list would keep plain HTTP open for whoever closes it."""
    indexes.apply(resource(), "team").expect(201)
    closed = indexes.apply(resource(fetch={"schemes": ["https"], "ports": [443]}), "team").expect(200)
    assert closed["spec"]["fetch"] | {"schemes": ["https"], "ports": [443]} == closed["spec"]["fetch"]


def test_kubectl_explains_a_field(defined: ApiServer) -> None:
    places = f"{os.environ.get('KUBEBUILDER_ASSETS', '')}:{os.environ['PATH']}"
    kubectl = shutil.which("kubectl", path=places)
    if kubectl is None:
        pytest.skip("no kubectl in KUBEBUILDER_ASSETS or on PATH")
    environment = os.environ | {"KUBECONFIG": str(defined.kubeconfig)}
    command = [kubectl, "explain", "visualindexes.spec.encoder.family"]
    until = time.monotonic() + 60  # the server publishes a definition some time after it has established it
    while True:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode == 0 or time.monotonic() > until:
            break
        time.sleep(0.5)
    assert "needs no download and no GPU" in run.stdout, run.stderr


def test_a_list_of_all_kinds_names_the_definition_in_its_categories() -> None:
    names = yaml.safe_load(CRD.read_text())["spec"]["names"]
    assert (names["shortNames"], names["categories"]) == (["vi"], ["all"])
