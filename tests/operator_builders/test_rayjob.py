"""The RayJob of a rebuild: its head stays where nodes stay, its workers go where they may go, and all give notice."""

import json
from typing import Any

import pytest
from tests.operator_builders.built import CLIP, SETTINGS, Manifest, owner, spec

from visualindex.planning.reindex_shape import SPOT_LABELS
from visualindex.planning.reindexing import BeginReindex, run_name
from visualindex.spec import parse_spec
from visualindex_operator.rayjob import GRACE_S, ray_job

JOB = "7e2f1234-0000-4000-8000-000000000000"
SPOT = {"pool": "cheap", "cloud.google.com/gke-spot": "true"}


def built(**sections: Any) -> Manifest:
    """The RayJob of an index with these sections."""
    name = run_name("shop", JOB, 2)
    action = BeginReindex("shop", spec(**sections), name, JOB, 2, 1, 7)
    return ray_job("search", "shop", action, owner(), SETTINGS)


def cluster(manifest: Manifest) -> Manifest:
    found: Manifest = manifest["spec"]["rayClusterSpec"]
    return found


def pods(manifest: Manifest) -> dict[str, Manifest]:
    """Pod specs by group."""
    groups = cluster(manifest)["workerGroupSpecs"]
    found = {group["groupName"]: group["template"]["spec"] for group in groups}
    return {"head": cluster(manifest)["headGroupSpec"]["template"]["spec"], **found}


def shunned(pod: Manifest) -> list[dict[str, set[str]]]:
    """For each way that leads a pod to a node: the values of labels that it does not take."""
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [
        {one["key"]: set(one["values"]) for one in term["matchExpressions"] if one["operator"] == "NotIn"}
        for term in required["nodeSelectorTerms"]
    ]


def environment(pod: Manifest) -> dict[str, Any]:
    [ray] = (one for one in pod["containers"] if one["name"] == "ray")
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in ray["env"]}


def test_the_head_runs_on_no_node_that_may_be_taken_away() -> None:
    found = pods(built(reindex={"cluster": {"workers": {"spot": SPOT}}}))
    [way] = shunned(found["head"])
    for key, value in {**SPOT_LABELS, **SPOT}.items():
        assert value in way[key], f"the head may run on {key}={value}"
    assert "affinity" not in found["reindex-worker"]
    assert "tolerations" not in found["head"]


def test_a_head_whose_template_states_an_affinity_of_its_own_is_kept_off_all_the_same() -> None:
    zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    affinity = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": zones[0]}],
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": zones},
        },
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
    }
    template = {"spec": {"affinity": affinity, "terminationGracePeriodSeconds": 5}}
    head = pods(built(reindex={"cluster": {"head": {"template": template}, "workers": {"spot": SPOT}}}))[
        "head"
    ]
    ways = shunned(head)
    assert len(ways) == 2, "terms are alternatives: each is narrowed"
    assert all(way["pool"] == {"cheap"} for way in ways)
    assert head["affinity"]["podAntiAffinity"] == affinity["podAntiAffinity"]
    assert "preferredDuringSchedulingIgnoredDuringExecution" in head["affinity"]["nodeAffinity"]
    assert head["terminationGracePeriodSeconds"] == GRACE_S


def test_workers_go_to_the_nodes_that_the_spec_names() -> None:
    tolerations = [{"key": "spot", "operator": "Exists"}]
    workers = {
        "spot": SPOT,
        "node_selector": {"zone": "a"},
        "tolerations": tolerations,
        "cpu": "1",
        "memory": "1Gi",
    }
    found = pods(built(reindex={"workers": 3, "decoders": 2, "cluster": {"workers": workers}}))
    for group in ("reindex-worker", "reindex-decoder"):
        assert found[group]["nodeSelector"] == {**SPOT, "zone": "a"}
        assert found[group]["tolerations"] == tolerations
    assert found["reindex-worker"]["containers"][0]["resources"]["requests"] == {
        "cpu": "1000m",
        "memory": "1Gi",
    }


def test_there_is_room_for_what_the_processes_reserve() -> None:
    alone = cluster(built(reindex={"workers": 3}))["workerGroupSpecs"]
    assert [(one["replicas"], one["rayStartParams"]["num-cpus"]) for one in alone] == [(3, "3")]
    apart = cluster(built(reindex={"workers": 3, "decoders": 2, "decode_workers": 4}))["workerGroupSpecs"]
    assert [(one["replicas"], one["rayStartParams"]["num-cpus"]) for one in apart] == [(3, "1"), (2, "4")]
    stated = cluster(built(reindex={"workers": 2, "cpus": 0.5}))["workerGroupSpecs"]
    assert [one["rayStartParams"]["num-cpus"] for one in stated] == ["1"]


@pytest.mark.parametrize(("gpus", "per_pod", "pods_", "cards"), [(1, 1, 5, 1), (0.5, 1, 3, 1), (1, 4, 2, 4)])
def test_gpus_are_shared_as_the_service_shares_them(
    gpus: float, per_pod: int, pods_: int, cards: int
) -> None:
    [group] = cluster(
        built(
            encoder={**CLIP, "num_gpus": gpus},
            reindex={"workers": 5},
            ray={"gpu_workers": {"gpus_per_pod": per_pod}},
        )
    )["workerGroupSpecs"]
    assert group["replicas"] == pods_
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == str(cards)


def test_every_pod_gives_notice_and_has_the_time_for_it() -> None:
    for name, pod in pods(built()).items():
        assert pod["terminationGracePeriodSeconds"] == 120, name
        command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:3] == ["python", "-m", "visualindex_jobs.notice"]
        assert float(command[-1]) < 120


def test_secrets_stay_in_secrets_and_the_head_alone_has_the_spec() -> None:
    manifest = built(domains=[{"name": "beds"}], reindex={"chunk_images": 32})
    found = {name: environment(pod) for name, pod in pods(manifest).items()}
    for name, variables in found.items():
        assert variables["VISUALINDEX_POSTGRES_DSN"] == {
            "secretKeyRef": {"name": "database", "key": "dsn"}
        }, name
        assert variables["VISUALINDEX_S3_SECRET_KEY"]["secretKeyRef"]["name"] == "bucket-keys"
    assert "VISUALINDEX_SPEC" not in found["reindex-worker"]
    resource = parse_spec(json.loads(found["head"]["VISUALINDEX_SPEC"]), "head")
    assert (resource.name, resource.spec.reindex.chunk_images) == ("shop", 32)
    assert resource.spec.domains[0].name == "beds"


def test_the_job_is_named_and_submitted_once() -> None:
    manifest = built(reindex={"cluster": {"keep_seconds": 30}})
    job = manifest["spec"]
    assert job["entrypoint"] == f"python -m visualindex_jobs reindex --job {JOB} --place own"
    assert (job["jobId"], job["submissionMode"], job["backoffLimit"]) == (
        manifest["metadata"]["name"],
        "HTTPMode",
        0,
    )
    assert (job["shutdownAfterJobFinishes"], job["ttlSecondsAfterFinished"]) == (True, 30)
    assert cluster(manifest)["authOptions"] == {"mode": "token"}
    [reference] = manifest["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["name"]) == ("VisualIndex", "shop")
    annotations = manifest["metadata"]["annotations"]
    assert [annotations[f"visualindex.dev/{key}"] for key in ("job", "number", "attempt", "chunks")] == [
        JOB,
        "2",
        "1",
        "7",
    ]
    assert built() == built(), "a repeat makes the same object"


def test_no_pod_of_a_rebuild_is_counted_as_one_of_the_service() -> None:
    manifest = built(reindex={"decoders": 1})
    groups = cluster(manifest)["workerGroupSpecs"]
    templates = [cluster(manifest)["headGroupSpec"]["template"], *(group["template"] for group in groups)]
    parts = [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in templates]
    assert parts == ["reindex-head", "reindex-worker", "reindex-decoder"]
    assert {one["metadata"]["labels"]["visualindex.dev/cluster"] for one in templates} == {"shop"}
