"""The RayService of a group of indexes."""

import json
from typing import Any

import pytest
import yaml
from tests.operator_builders.built import GOLDEN, LONGEST_NAME, built, golden, spec, text_of

from visualindex_operator import names


@pytest.mark.parametrize("name", ["default", "gpu", "by-role", "shared"])
def test_it_is_as_in_the_golden_file(name: str) -> None:
    hint = "look at the difference; `python -m tests.operator_builders.built` writes the golden files anew"
    assert text_of(golden()[name]) == (GOLDEN / f"{name}.yaml").read_text(), hint


def test_equal_specs_give_equal_bytes() -> None:
    one, other = (json.dumps(built(shop=spec(), side=spec())) for _ in range(2))
    assert one == other


def _groups(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]}


def _applications(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {app["name"]: app for app in yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]}


def test_more_replicas_change_counts_and_nothing_else() -> None:
    one, more = built(shop=spec()), built(shop=spec(index={"replicas": 3}, gateway={"replicas": 3}))
    assert more["metadata"]["annotations"][names.SHAPE] == one["metadata"]["annotations"][names.SHAPE]
    for manifest in (one, more):
        for group in _groups(manifest).values():
            for count in ("replicas", "minReplicas", "maxReplicas"):
                del group[count]
    assert more["spec"]["rayClusterConfig"] == one["spec"]["rayClusterConfig"]
    for name, application in _applications(more).items():
        before = _applications(one)[name]
        assert application["args"] == before["args"]
        assert application["runtime_env"] == before["runtime_env"]


def test_a_second_index_adds_applications_and_pods_and_changes_no_application_of_the_first() -> None:
    one, two = built(shop=spec()), built(shop=spec(), side=spec())
    assert set(_applications(two)) == {"index-shop", "gateway-shop", "index-side", "gateway-side"}
    assert _applications(two)["gateway-side"]["route_prefix"] == "/side"
    for name, application in _applications(one).items():
        assert _applications(two)[name]["args"] == application["args"]
    assert _groups(two)["worker"]["replicas"] == 4


def test_only_workers_that_offer_a_role_take_its_replicas() -> None:
    groups = _groups(golden()["by-role"])
    offered = {
        name: set(json.loads(group["rayStartParams"]["resources"].strip("'")))
        for name, group in groups.items()
    }
    assert offered == {
        "gateway": {"visualindex-gateway", "visualindex-encoder"},
        "shard": {"visualindex-shard"},
    }


def test_gpus_are_asked_for_where_the_encoder_runs_and_nowhere_else() -> None:
    groups = _groups(golden()["gpu"])
    asked = {
        name: group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for name, group in groups.items()
    }
    assert asked == {"worker": None, "gpu": "1"}
    assert groups["gpu"]["replicas"] == 2
    assert groups["gpu"]["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}


def test_a_group_that_scales_is_never_said_to_be_larger_than_it_may_become() -> None:
    manifest = built(shop=spec(gateway={"replicas": 12}, ray={"workers": {"max_replicas": 3}}))
    for group in _groups(manifest).values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_rays_interfaces_want_a_token() -> None:
    assert built(shop=spec())["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}


def test_redis_keeps_the_heads_state_where_there_is_one() -> None:
    redis = {"address": "valkey:6379", "password_secret_ref": {"name": "valkey", "key": "password"}}
    config = built(shop=spec(ray={"redis": redis}))["spec"]["rayClusterConfig"]
    assert config["gcsFaultToleranceOptions"] == {
        "redisAddress": "valkey:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "valkey", "key": "password"}}},
    }
    assert "gcsFaultToleranceOptions" not in built(shop=spec())["spec"]["rayClusterConfig"]


def test_no_secret_is_in_it() -> None:
    text = json.dumps(built(shop=spec()))
    assert "postgresql://" not in text
    assert "secretKey" not in text


def test_it_is_owned_by_every_index_that_it_serves() -> None:
    owners = built(shop=spec(), side=spec())["metadata"]["ownerReferences"]
    assert [(one["kind"], one["name"], one["uid"]) for one in owners] == [
        ("VisualIndex", "shop", "uid-of-shop"),
        ("VisualIndex", "side", "uid-of-side"),
    ]


def test_the_longest_name_is_short_enough_for_kuberay() -> None:
    manifest = built(LONGEST_NAME, **{LONGEST_NAME: spec()})
    assert len(manifest["metadata"]["name"]) <= 47
