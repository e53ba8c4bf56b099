"""What the API server refuses, and that it says what to do instead."""

from pathlib import Path

import pytest
from tests.kubernetes.conftest import Indexes
from tests.kubernetes.documents import HERE, documents, expectation, resource

from visualindex.spec import SpecError, load_specs, parse_spec
from visualindex.spec.documents import read_documents
from visualindex.spec.rules import ruled_paths, rules_at

BAD = sorted((HERE / "bad").glob("*.yaml"))
# `kubectl` shows a status, and to the API server an empty section is an absent one.
ACCEPTED = {"empty-section", "status-is-not-written"}
# What a domain says of filters and attributes no schema can judge: the resource's status says that it is wrong.
ACCEPTED |= {
    "domain-attribute-unknown",
    "domain-filter-unknown-field",
    "domain-filter-without-quotes",
    "domain-limit-above-search-limit",
}
CHANGES = sorted((HERE / "changes").glob("*.yaml"))
BAD_EVERYWHERE = [
    path for path in sorted((HERE.parent / "spec" / "bad").glob("*.yaml")) if path.stem not in ACCEPTED
]


def test_there_are_many_bad_specs() -> None:
    assert len(BAD) >= 40


def test_every_rule_has_a_spec_that_breaks_it() -> None:
    promised = [expectation(path) for path in (*BAD, *CHANGES)]
    rules = [rule for path in ruled_paths() for rule in rules_at(path)]
    unbroken = [rule.message for rule in rules if not any(text in rule.message for text in promised)]
    assert unbroken == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_spec_is_refused_with_a_message_that_helps(path: Path, indexes: Indexes) -> None:
    [document] = documents(path)
    answer = indexes.try_create(document)
    assert answer.status in (400, 422), "the spec was accepted"
    assert expectation(path) in answer.message


@pytest.mark.parametrize("path", CHANGES, ids=lambda path: path.stem)
def test_what_cannot_change_is_refused_with_the_way_round(path: Path, indexes: Indexes) -> None:
    before, after = documents(path)
    created = indexes.create(before)
    if "status" in before:
        indexes.report("shop", before["status"]).expect(200)
    resource_version = indexes.get("shop")["metadata"]["resourceVersion"]
    after["metadata"] |= {"resourceVersion": resource_version, "uid": created["metadata"]["uid"]}
    answer = indexes.server.request("PUT", f"{indexes.path}/shop", after, fieldValidation="Strict")
    assert answer.status == 422, "the change was accepted"
    assert expectation(path) in answer.message


@pytest.mark.parametrize("path", BAD_EVERYWHERE, ids=lambda path: path.stem)
def test_what_the_models_refuse_the_api_server_refuses(path: Path, indexes: Indexes) -> None:
    """Mistakes in YAML and between documents are for the reader of files alone."""
    for document in read_documents(path.read_text(), str(path)):
        if document.problems or not isinstance(document.value, dict):
            continue
        try:
            parse_spec(document.value, str(path))
        except SpecError:
            assert indexes.try_create(document.value).status in (400, 422)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_only_what_kubernetes_alone_forbids_passes_the_models(path: Path) -> None:
    kubernetes_alone = {
        "access-open",
        "encoder-cuda-without-gpus",
        "encoder-in-gateways-with-gpus",
        "index-memory-below-64mi",
        "index-memory-in-bytes-below-64mi",
        "name-is-a-path",
        "postgres-password-in-keywords",
        "postgres-password-in-query",
        "postgres-password-in-url",
    }
    if path.stem in kubernetes_alone:
        assert load_specs([path])
    else:
        with pytest.raises(SpecError):
            load_specs([path])


def test_a_refusal_points_at_the_field_to_mend(indexes: Indexes) -> None:
    answer = indexes.try_create(
        resource(encoder={"family": "timm", "checkpoint": "/weights.pt", "device": "cuda"})
    )
    fields = {cause["field"] for cause in answer.body["details"]["causes"]}
    assert fields == {"spec.encoder.model", "spec.encoder.numGpus"}
