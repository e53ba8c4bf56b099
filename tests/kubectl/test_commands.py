"""The commands against a real API server: what they read, what they write, and what they say when they may not."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import Indexes

from visualindex.errors import ProblemError

from .conftest import Run
from .recorded import recorded

DOCUMENT: dict[str, Any] = {
    "apiVersion": "visualindex.dev/v1alpha1",
    "kind": "VisualIndex",
    "metadata": {"name": "fashion"},
    "spec": {
        "profile": "small",
        "changePolicy": "Approve",
        "postgres": {"dsnSecretRef": {"name": "postgres", "key": "dsn"}},
        "storage": {"s3": {"endpoint": "minio:9000", "bucket": "b"}},
    },
}


@pytest.fixture
def fashion(indexes: Indexes) -> Indexes:
    """An index whose changed spec waits for approval."""
    indexes.create(DOCUMENT)
    indexes.report("fashion", recorded().index["status"]).expect(200)
    return indexes


def problem(result: Any) -> str:
    assert isinstance(result.exception, ProblemError), result.output
    return result.exception.detail


def test_an_index_that_is_not_ready_is_exit_code_1(fashion: Indexes, run: Run) -> None:
    result = run("status", "fashion")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"fashion (namespace {fashion.namespace}) is not ready since")


def test_a_ready_index_is_exit_code_0(fashion: Indexes, run: Run) -> None:
    conditions = [{"type": "Ready", "status": "True", "reason": "SearchAnswers", "message": ""}]
    time = {"lastTransitionTime": "2026-11-24T11:00:00Z", "observedGeneration": 1}
    fashion.report("fashion", {"conditions": [{**condition, **time} for condition in conditions]}).expect(200)
    result = run("status", "fashion", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["waitsFor"] is None


def test_all_indexes_are_listed(fashion: Indexes, run: Run) -> None:
    assert "fashion  False  NotAnswering  1,234" in run("status").stdout


def test_a_wrong_name_is_answered_with_the_right_ones(fashion: Indexes, run: Run) -> None:
    assert f"namespace {fashion.namespace} has no VisualIndex 'fashon': it has fashion" in problem(
        run("status", "fashon")
    )


def test_a_refused_change_is_not_approved(fashion: Indexes, run: Run) -> None:
    result = run("approve", "fashion", answer="n\n")
    assert result.exit_code == 1
    assert "index.shards: 1 → 2" in result.stdout
    assert "annotations" not in fashion.get("fashion")["metadata"]


def test_an_approval_names_the_change(fashion: Indexes, run: Run) -> None:
    result = run("approve", "fashion", "--yes")
    assert result.exit_code == 0, result.output
    assert fashion.get("fashion")["metadata"]["annotations"]["visualindex.dev/approve"] == "0f3b5c9a11"


def test_a_plan_says_how_to_approve_it(fashion: Indexes, run: Run) -> None:
    assert f"kubectl visualindex approve fashion -n {fashion.namespace}" in run("plan", "fashion").stdout


def test_what_a_file_would_cause_is_worked_out_without_sending_it(
    fashion: Indexes, run: Run, tmp_path: Path
) -> None:
    before = fashion.get("fashion")
    changed = {**DOCUMENT, "spec": {**DOCUMENT["spec"], "index": {"shards": 2}}}
    file = tmp_path / "fashion.yaml"
    file.write_text(yaml.safe_dump(changed))
    assert "index.shards: 1 → 2" in run("plan", "fashion", "-f", str(file)).stdout
    file.write_text(yaml.safe_dump(DOCUMENT))
    assert "changes nothing" in run("plan", "fashion", "-f", str(file)).stdout
    assert fashion.get("fashion") == before


def test_events_of_the_index_are_listed_and_others_are_not(fashion: Indexes, run: Run) -> None:
    for name, reason in (("fashion", "Planned"), ("shoes", "Unrelated")):
        event = {
            "metadata": {"name": f"{name}.1"},
            "involvedObject": {"kind": "VisualIndex", "name": name, "namespace": fashion.namespace},
            "reason": reason,
            "message": "a change",
            "type": "Normal",
            "lastTimestamp": "2026-11-24T11:00:00Z",
        }
        fashion.server.request("POST", f"/api/v1/namespaces/{fashion.namespace}/events", event).expect(201)
    result = run("events", "fashion")
    assert "Planned" in result.stdout
    assert "Unrelated" not in result.stdout


def test_a_search_without_a_key_says_where_keys_come_from(fashion: Indexes, run: Run) -> None:
    said = problem(run("search", "fashion", "x.png"))
    assert "Secret fashion-api-keys is not there" in said
    assert "--api-key" in said


def test_a_search_before_there_is_a_service_says_so(fashion: Indexes, run: Run) -> None:
    fashion.report("fashion", {"endpoints": None}).expect(200)
    said = problem(run("search", "fashion", "x.png", "--api-key", "vi_x"))
    assert "has no Service fashion-serve-svc yet" in said


def test_who_may_not_is_told_what_to_ask_for(
    fashion: Indexes, run: Run, api_server: ApiServer, tmp_path: Path
) -> None:
    kubeconfig = _nobody(fashion, api_server, tmp_path)
    said = problem(run("plan", "fashion", kubeconfig=kubeconfig))
    assert "ask for a Role that allows `get visualindexes.visualindex.dev`" in said
    assert fashion.namespace in said


def test_no_cluster_is_said_in_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    said = problem(run("status", kubeconfig=tmp_path / "missing"))
    assert said == "there is no cluster to talk to: set KUBECONFIG, or write ~/.kube/config"


def _nobody(indexes: Indexes, api_server: ApiServer, folder: Path) -> Path:
    """A kubeconfig for a service account without rights."""
    accounts = f"/api/v1/namespaces/{indexes.namespace}/serviceaccounts"
    api_server.request("POST", accounts, {"metadata": {"name": "nobody"}}).expect(201)
    token = api_server.request("POST", f"{accounts}/nobody/token", {"spec": {}}).expect(201)["status"][
        "token"
    ]
    document = yaml.safe_load(api_server.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    path = folder / "nobody.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path
