"""The pods that specs ask for, and when another spec can keep them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.planning.world import spec

from visualindex.planning.shape import (
    ClusterShape,
    Group,
    as_resource,
    cluster_shape,
    replica_count,
    resolved,
)

GIB = 1024**3


def shape(*specs: dict[str, Any]) -> ClusterShape:
    """The shape for indexes with these specs, oldest first."""
    return cluster_shape([as_resource(f"index-{n}", spec(**one)) for n, one in enumerate(specs)])


def group(of: ClusterShape, name: str) -> Group:
    """One group of a shape."""
    return next(one for one in of.groups if one.name == name)


def test_the_default_has_two_workers_that_carry_everything_and_a_head_that_carries_nothing() -> None:
    found = shape({})
    assert [(one.name, one.replicas) for one in found.groups] == [("worker", 2)]
    assert set(found.groups[0].roles) == {"gateway", "shard", "encoder"}
    assert (found.head.logical_cpus, found.head.roles) == (0, ())


def test_the_small_profile_has_one_worker() -> None:
    assert group(shape({"profile": "small"}), "worker").replicas == 1


def test_a_worker_has_memory_for_a_replica_of_every_shard() -> None:
    one, four = (group(shape({"index": {"shards": n}}), "worker").memory for n in (1, 4))
    assert four - one > 3 * 2 * GIB


def test_by_role_gateways_and_shards_have_pods_of_their_own() -> None:
    found = shape({"ray": {"workers": {"layout": "ByRole"}}, "index": {"shards": 3}})
    assert {one.name: (one.replicas, one.roles) for one in found.groups} == {
        "gateway": (2, ("gateway", "encoder")),
        "shard": (6, ("shard",)),
    }


def test_sizes_that_the_spec_states_take_the_place_of_the_derived_ones() -> None:
    ray = {"workers": {"cpu": "1500m", "memory": 8 * GIB, "replicas": 4}, "head": {"cpu": "0.5"}}
    found = shape({"ray": ray})
    worker = group(found, "worker")
    assert (worker.cpu_millis, worker.memory, worker.replicas) == (1500, 8 * GIB, 4)
    assert found.head.cpu_millis == 500


@pytest.mark.parametrize("joining", [{}, {"gateway": {"replicas": 8}}, {"index": {"memory_per_shard": GIB}}])
@pytest.mark.parametrize("layout", ["Together", "ByRole"])
def test_an_index_that_is_no_larger_joins_without_other_pods(layout: str, joining: dict[str, Any]) -> None:
    first = {"ray": {"workers": {"layout": layout}}}
    alone, joined = shape(first), shape(first, joining)
    assert joined.identity() == alone.identity()
    assert sum(one.replicas for one in joined.groups) > sum(one.replicas for one in alone.groups)


def test_a_larger_index_takes_other_pods() -> None:
    assert shape({}, {"index": {"memory_per_shard": 4 * GIB}}).identity() != shape({}).identity()


def test_settings_of_the_cluster_are_those_of_the_first() -> None:
    other = {"ray": {"image": "other", "cache": {"size": 1}}}
    assert shape({}, other).ray == spec().ray
    assert shape({}, other).identity() == shape({}).identity()


def test_the_pods_of_a_shared_cluster_have_room_for_the_replicas_of_all() -> None:
    for count in (1, 2, 5, 20):
        found = shape({"ray": {"workers": {"replicas": 2}}}, *[{}] * (count - 1))
        assert group(found, "worker").logical_cpus * 2 >= count * (2 * 0.5 + 2 * 0.25)


def test_an_encoder_with_gpus_has_pods_of_its_own() -> None:
    gpu = group(shape({"encoder": {"num_gpus": 1, "replicas": 3}}), "gpu")
    assert (gpu.replicas, gpu.gpus, gpu.roles) == (3, 1, ("encoder",))


@pytest.mark.parametrize(
    ("num_gpus", "replicas", "per_pod", "pods"),
    [
        (1, 2, 1, 2),
        (1, 3, 2, 2),
        (0.5, 4, 1, 2),
        (0.6, 5, 1, 5),  # nobody gets the rests of two GPUs
        (0.1, 10, 1, 1),
        (2, 3, 3, 3),  # two of three, and one is left over
        (2, 2, 4, 1),
        (0.25, 8, 2, 1),
    ],
)
def test_there_are_as_many_gpu_pods_as_encoders_need(
    num_gpus: float, replicas: int, per_pod: int, pods: int
) -> None:
    sections = {
        "encoder": {"num_gpus": num_gpus, "replicas": replicas},
        "ray": {"gpu_workers": {"gpus_per_pod": per_pod}},
    }
    gpu = group(shape(sections), "gpu")
    assert (gpu.replicas, gpu.gpus) == (pods, per_pod)


def test_an_encoder_that_needs_more_gpus_than_a_pod_is_said_to_have_gets_them() -> None:
    gpu = group(shape({"encoder": {"num_gpus": 4}}), "gpu")
    assert (gpu.replicas, gpu.gpus) == (2, 4)


def test_the_fractions_of_two_indexes_share_gpus() -> None:
    half = {"encoder": {"num_gpus": 0.5, "replicas": 1}}
    assert group(shape(half, half), "gpu").replicas == 1


def test_an_encoder_in_the_gateways_has_no_gpu_pods() -> None:
    found = shape({"encoder": {"placement": "gateway", "device": "cuda", "num_gpus": 1}})
    assert [one.name for one in found.groups] == ["worker"]
    assert found.gpus == 0


GPU_SHARDS: dict[str, Any] = {"family": "ivf-sq8", "num_gpus": 1}


@pytest.mark.parametrize(
    ("num_gpus", "shards", "layout", "each"),
    [
        (0, 4, "Together", 0),
        (1, 1, "Together", 1),
        (1, 3, "Together", 3),  # a worker holds a replica of every shard
        (1, 3, "ByRole", 1),
        (2, 3, "Together", 6),
        (0.5, 3, "Together", 2),
        (0.6, 3, "Together", 3),  # nobody gets the rests of two GPUs
        (0.25, 8, "Together", 2),
        (0.25, 8, "ByRole", 1),
    ],
)
def test_pods_that_hold_shards_have_the_gpus_of_those(
    num_gpus: float, shards: int, layout: str, each: int
) -> None:
    index = {**GPU_SHARDS, "num_gpus": num_gpus, "shards": shards}
    ray = {"workers": {"layout": layout}, "gpu_workers": {"resource": "nvidia.com/mig-1g.10gb"}}
    found = shape({"index": index, "ray": ray})
    for one in found.groups:
        held = each if "shard" in one.roles else 0
        assert (one.gpus, one.gpu_resource) == (held, "nvidia.com/mig-1g.10gb" if held else "")
    assert found.gpus == each * sum(one.replicas for one in found.groups if "shard" in one.roles)


def test_encoders_on_gpus_do_not_take_those_of_shards() -> None:
    """Who offers the role of an encoder has GPUs for encoders."""
    for layout in ("Together", "ByRole"):
        sections = {"index": GPU_SHARDS, "encoder": {"num_gpus": 1}, "ray": {"workers": {"layout": layout}}}
        found = shape(sections)
        assert [one.name for one in found.groups if one.gpus and "encoder" in one.roles] == ["gpu"]
    assert "encoder" in group(shape({"index": GPU_SHARDS}), "worker").roles


def test_an_index_whose_shards_have_gpus_takes_other_pods() -> None:
    assert shape({}, {"index": GPU_SHARDS}).identity() != shape({}).identity()


def test_a_cluster_of_somebody_else_has_no_pods_of_ours() -> None:
    external = {"address": "http://ray:8265", "serve_url": "http://ray:8000"}
    found = shape({"ray": {"mode": "External", "external": external}})
    assert found.groups == ()
    assert found.footprint([spec()]).pods == 0
    assert found.footprint([spec()]).replicas == 4


def test_what_a_spec_leaves_open_comes_from_the_installation() -> None:
    assert resolved(spec(), "visualindex:1").ray.image == "visualindex:1"
    assert resolved(spec(ray={"image": "own:2"}), "visualindex:1").ray.image == "own:2"


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 12), st.sampled_from(["Together", "ByRole"]))
@settings(deadline=None)
def test_every_replica_finds_a_place(shards: int, replicas: int, gateways: int, layout: str) -> None:
    sections = {
        "index": {"shards": shards, "replicas": replicas},
        "gateway": {"replicas": gateways},
        "ray": {"workers": {"layout": layout}},
    }
    found = shape(sections)
    carried = [one for one in found.groups if "shard" in one.roles]
    memory = sum(one.memory * one.replicas for one in carried)
    assert memory >= shards * replicas * spec(**sections).index.memory_per_shard
    logical = sum(one.logical_cpus * one.replicas for one in found.groups)
    assert logical >= gateways * 0.5 + shards * replicas * 0.25
    assert found.footprint([spec(**sections)]).replicas == replica_count(spec(**sections))
