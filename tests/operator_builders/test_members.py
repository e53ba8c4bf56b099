"""From live objects to the members of a group."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.operator_builders.built import SETTINGS

from visualindex.spec.models import RedisSpec
from visualindex_operator.members import group_of, member
from visualindex_operator.settings import Settings

EXTERNAL = {
    "mode": "External",
    "external": {"address": "http://ray:8265/", "serveUrl": "http://ray:8000"},
}


def body(spec: Any = None, **metadata: Any) -> dict[str, Any]:
    """A live object."""
    known = {
        "name": "shop",
        "namespace": "search",
        "generation": 3,
        "creationTimestamp": "2026-03-01T12:00:00Z",
    }
    return {"metadata": {**known, **metadata}, "spec": {} if spec is None else spec}


@pytest.mark.parametrize(
    ("spec", "group"),
    [
        ({}, ("search", "KubeRay", "shop")),
        ({"ray": {"cluster": "shared"}}, ("search", "KubeRay", "shared")),
        ({"ray": EXTERNAL}, ("search", "External", "http://ray:8265")),
        ({"ray": None}, ("search", "KubeRay", "shop")),
    ],
)
def test_a_resource_belongs_to_those_that_share_its_cluster(spec: Any, group: tuple[str, ...]) -> None:
    assert group_of(body(spec)) == group


def test_a_resource_without_a_spec_has_a_group() -> None:
    assert group_of({"metadata": {"name": "shop", "namespace": "search"}, "spec": None})[2] == "shop"


def test_a_spec_is_completed_by_the_installation() -> None:
    redis = RedisSpec(address="valkey:6379")
    found = member(body(), Settings(image="visualindex:1", redis=redis, ray_version="2.60.0"))
    assert found.spec is not None
    assert (found.spec.ray.image, found.spec.ray.redis) == ("visualindex:1", redis)
    assert found.created == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert found.generation == 3


def test_a_spec_that_cannot_be_understood_is_told_with_its_mistake() -> None:
    found = member(body({"index": {"shards": 0}}), SETTINGS)
    assert found.spec is None
    assert "spec.index.shards" in found.problem


@pytest.mark.parametrize(("text", "paused"), [("true", True), ("Yes", True), ("false", False), ("", False)])
def test_an_annotation_pauses(text: str, paused: bool) -> None:
    assert member(body(annotations={"visualindex.dev/paused": text}), SETTINGS).paused is paused


def test_an_annotation_approves() -> None:
    assert member(body(annotations={"visualindex.dev/approve": "abc"}), SETTINGS).approved == "abc"


def test_a_resource_that_is_being_deleted_is_known_by_its_time() -> None:
    assert member(body(deletionTimestamp="2026-03-02T00:00:00Z"), SETTINGS).deleting
    assert not member(body(), SETTINGS).deleting


def test_of_a_status_by_a_newer_operator_the_served_spec_is_kept() -> None:
    status = {"applied": {"profile": "small"}, "plan": {"id": "x", "change": "Teleport", "state": "Waiting"}}
    found = member({**body(), "status": status}, SETTINGS)
    assert found.status.applied == {"profile": "small"}
    assert found.status.plan is None


def test_a_status_is_read_back() -> None:
    status = {"images": 7, "conditions": [{"type": "Ready", "status": "True", "reason": "SearchAnswers"}]}
    found = member({**body(), "status": status}, SETTINGS).status
    assert (found.images, found.conditions[0].type) == (7, "Ready")
