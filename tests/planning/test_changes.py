"""What a change of a field causes: within the cluster, another cluster, or everything encoded anew."""

from typing import Any

import pytest
from tests.planning.world import spec

from visualindex.planning.changes import describe_change, describe_creation, sum_of
from visualindex.spec.models import LimitsSpec
from visualindex.spec.status import Footprint, Plan

GIB = 1024**3
EXTERNAL = {"mode": "External", "external": {"address": "http://ray:8265", "serve_url": "http://ray:8000"}}


def change(before: dict[str, Any], after: dict[str, Any], images: int | None = 100) -> Plan:
    """The change between two specs."""
    found = describe_change(spec(**before), spec(**after), images, "shop")
    assert found is not None
    return found


WITHIN_THE_CLUSTER: dict[str, dict[str, Any]] = {
    "replicas of gateways": {"gateway": {"replicas": 5}},
    "replicas of shards": {"index": {"replicas": 3}},
    "replicas of encoders": {"encoder": {"replicas": 4}},
    "the profile": {"profile": "small"},
    "limits": {"limits": {"search_limit": 50, "decode_timeout_ms": 900}},
    "how the graph is built": {"index": {"hnsw": {"m": 16}}},
    "the secret of the database": {"postgres": {"dsn_secret_ref": {"name": "other", "key": "dsn"}}},
    "the bucket": {"storage": {"s3": {"endpoint": "minio:9000", "bucket": "pictures"}}},
    "fetching": {"fetch": {"enabled": False}},
    "more workers": {"ray": {"workers": {"replicas": 5}}},
    "tolerations": {"ray": {"workers": {"tolerations": [{"operator": "Exists"}]}}},
}
OTHER_PODS: dict[str, dict[str, Any]] = {
    "memory of shards": {"index": {"memory_per_shard": 4 * GIB}},
    "one shard to two": {"index": {"shards": 2}},
    "the image": {"ray": {"image": "visualindex:2"}},
    "the pull policy": {"ray": {"image_pull_policy": "Always"}},
    "memory of pods": {"ray": {"workers": {"memory": 9 * GIB}}},
    "a label that nodes must have": {"ray": {"workers": {"node_selector": {"pool": "fast"}}}},
    "a pod template": {"ray": {"head": {"template": {"metadata": {"labels": {"team": "search"}}}}}},
    "the layout": {"ray": {"workers": {"layout": "ByRole"}}},
    "the autoscaler": {"ray": {"workers": {"max_replicas": 9}}},
    "Redis": {"ray": {"redis": {"address": "valkey:6379"}}},
    "the cache": {"ray": {"cache": {"size": 20 * GIB}}},
    "GPUs": {"encoder": {"num_gpus": 1}},
    "GPUs of shards": {"index": {"family": "ivf-sq8", "num_gpus": 1}},
    "pictures that take more memory": {"limits": {"image_pixels": 400_000_000}},
    "a deadline of another order": {"limits": {"search_timeout_ms": 60_000}},
}
OTHER_VECTORS: dict[str, dict[str, Any]] = {
    "dimension": {"encoder": {"dimension": 128}},
    "projection": {"encoder": {"projection": "s3://models/pca.npz"}},
    "family": {"encoder": {"family": "timm", "model": "resnet50", "checkpoint": "/resnet.pt"}},
}


@pytest.mark.parametrize("after", WITHIN_THE_CLUSTER.values(), ids=WITHIN_THE_CLUSTER)
def test_this_happens_within_the_cluster(after: dict[str, Any]) -> None:
    found = change({}, after)
    assert found.change == "InPlace"
    assert found.summary[0] == "within the running cluster"


@pytest.mark.parametrize("after", OTHER_PODS.values(), ids=OTHER_PODS)
def test_this_takes_a_second_cluster(after: dict[str, Any]) -> None:
    assert change({}, after).change == "NewCluster"


@pytest.mark.parametrize("after", OTHER_PODS.values(), ids=OTHER_PODS)
def test_this_recreates_where_the_spec_says_so(after: dict[str, Any]) -> None:
    after = {**after, "ray": {**after.get("ray", {}), "upgrade": "Recreate"}}
    assert change({}, after).change == "Recreate"


@pytest.mark.parametrize("after", OTHER_VECTORS.values(), ids=OTHER_VECTORS)
def test_this_takes_a_reindex_where_there_are_images(after: dict[str, Any]) -> None:
    assert change({}, after, images=100).change == "Reindex"
    assert change({}, after, images=None).change == "Reindex"
    assert change({}, after, images=0).change != "Reindex"


@pytest.mark.parametrize("after", [*WITHIN_THE_CLUSTER.values(), *OTHER_PODS.values()])
def test_on_a_cluster_of_somebody_else_every_change_is_within_it(after: dict[str, Any]) -> None:
    after = {**after, "ray": {**after.get("ray", {}), "upgrade": "Recreate", **EXTERNAL}}
    assert change({"ray": EXTERNAL}, {**after, "search_log": {"enabled": False}}).change == "InPlace"


@pytest.mark.parametrize("after", OTHER_VECTORS.values(), ids=OTHER_VECTORS)
def test_on_a_cluster_of_somebody_else_another_encoder_takes_a_reindex(after: dict[str, Any]) -> None:
    assert change({"ray": EXTERNAL}, {**after, "ray": EXTERNAL}).change == "Reindex"


@pytest.mark.parametrize(
    "after",
    [
        {"change_policy": "Approve"},
        {"deletion_policy": "Delete", "deletion_timeout_seconds": 60},
        {"ray": {"upgrade": "Recreate", "gpu_budget": 3}},
    ],
)
def test_a_policy_alone_changes_nothing_that_runs(after: dict[str, Any]) -> None:
    assert describe_change(spec(), spec(**after), 100, "shop") is None


def test_a_new_cluster_takes_both_together_while_it_starts() -> None:
    found = change({}, {"index": {"memory_per_shard": 4 * GIB}})
    assert found.during == sum_of(found.before, found.after)
    assert found.during.pods == found.before.pods + found.after.pods
    assert found.before.memory != found.after.memory


def test_fractions_of_a_processor_add_up() -> None:
    total = sum_of(Footprint(cpus="1300m", memory="512Mi"), Footprint(cpus="700m", memory="512Mi"))
    assert (total.cpus, total.memory) == ("2", "1Gi")


def test_a_change_within_the_cluster_takes_the_larger_of_each_size() -> None:
    found = change({"gateway": {"replicas": 2}}, {"gateway": {"replicas": 3}})
    assert (found.before.pods, found.during.pods, found.after.pods) == (3, 3, 3)
    assert found.during.replicas == found.after.replicas == found.before.replicas + 1


def test_suspending_takes_nothing_afterwards_and_resuming_nothing_before() -> None:
    suspend, resume = change({}, {"suspend": True}), change({"suspend": True}, {})
    assert (suspend.change, suspend.during, suspend.after) == ("Suspend", suspend.before, Footprint())
    assert (resume.change, resume.during, resume.before) == ("Resume", resume.after, Footprint())


def test_a_change_while_suspended_takes_nothing() -> None:
    found = change({"suspend": True}, {"suspend": True, "index": {"shards": 2}})
    assert (found.change, found.before, found.during, found.after) == ("InPlace", *[Footprint()] * 3)
    assert found.summary[0] == "nothing starts while spec.suspend is true"


def test_the_profile_is_told_with_what_it_takes() -> None:
    found = change({"profile": "small"}, {"profile": "standard"})
    assert "profile: small → standard" in found.summary
    assert (found.before.pods, found.after.pods) == (2, 3)
    assert (found.before.replicas, found.after.replicas) == (2, 4)


def test_the_summary_names_every_field_with_both_values() -> None:
    found = change({}, {"limits": {"search_limit": 50}, "ray": {"redis": {"address": "valkey:6379"}}})
    assert "limits.searchLimit: 200 → 50" in found.summary
    assert any(line.startswith("ray.redis: unset → ") for line in found.summary)


def test_a_long_summary_says_how_much_more_there_is() -> None:
    found = change({}, {"limits": dict.fromkeys(LimitsSpec.model_fields, 1000), **_THIRTEEN})
    assert len(found.summary) == 20
    assert found.summary[-1] == "and 6 more"  # two consequences and 23 fields, of which 19 lines are shown


_THIRTEEN: dict[str, Any] = {
    "gateway": {"replicas": 5, "max_concurrent_requests": 5, "decode_workers": 5},
    "encoder": {"replicas": 5, "max_batch_size": 5, "batch_deadline_ms": 9.0, "dimension": 64},
    "index": {"shards": 2, "replicas": 5, "poll_interval_ms": 50},
    "search_log": {"enabled": False, "retention_days": 1},
    "fetch": {"enabled": False},
}


def test_a_changes_id_is_that_of_both_specs() -> None:
    one, same = change({}, {"profile": "small"}), change({}, {"profile": "small", "change_policy": "Approve"})
    assert one.id == same.id
    assert one.id != change({}, {"profile": "small", "gateway": {"replicas": 3}}).id
    assert one.id != change({"profile": "small"}, {}).id


def test_a_creation_takes_what_the_index_will_take() -> None:
    found = describe_creation(spec(), "shop")
    assert (found.change, found.before, found.during) == ("Create", Footprint(), found.after)
    assert describe_creation(spec(suspend=True), "shop").after == Footprint()


def reshard(**ray: Any) -> Plan:
    """One shard becomes three."""
    return change({"ray": ray}, {"ray": ray, "index": {"shards": 3}})


def test_resharding_loads_the_new_shards_beside_the_old_ones() -> None:
    found = reshard()
    assert found.change == "NewCluster"
    assert found.summary == [
        "a second cluster starts beside the first and takes over: no search fails",
        "the images are loaded into 3 shards beside 1 shard, which are searched until those are ready",
        "index.shards: 1 → 3",
    ]
    assert found.during == sum_of(found.before, found.after)


def test_resharding_says_where_it_is_an_outage() -> None:
    found = reshard(upgrade="Recreate")
    assert found.change == "Recreate"
    assert found.summary[:2] == [
        "the cluster ends and starts again: searches fail for a minute or more",
        "the images are loaded again into 3 shards",
    ]


def test_on_a_cluster_of_others_both_layouts_take_their_room_for_a_while() -> None:
    found = reshard(**EXTERNAL)
    assert found.change == "InPlace"
    assert "the cluster needs room for both" in found.summary[2]
    assert (found.before.replicas, found.during.replicas, found.after.replicas) == (4, 10, 8)


def test_fewer_shards_are_a_reshard_too() -> None:
    found = change({"index": {"shards": 3}}, {"index": {"shards": 1}})
    assert found.change == "NewCluster"
    assert "the images are loaded into 1 shard beside 3 shards" in found.summary[1]


def test_a_plan_says_what_the_images_will_take() -> None:
    plan = change({}, {"index": {"shards": 4}}, images=3_000_000)
    assert plan.capacity[0] == "images: 3M of 256 dimensions"
    assert plan.capacity[1].startswith("shards: 4 ")
    assert describe_creation(spec(), "shop").capacity[0] == "images: 1M of 256 dimensions"
    too_many = change({}, {"index": {"shards": 4}}, images=300_000_000)
    assert any(line.startswith("does not fit: index.shards: 4 would need") for line in too_many.capacity)
