"""Pods: restricted, and open to what a user wants of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.operator_builders.built import SETTINGS, built, golden, owner, spec

from visualindex_operator.children import erase_job, migrate_job
from visualindex_operator.pods import merged

Pod = dict[str, Any]


def _pods() -> Iterator[tuple[str, Pod]]:
    for name, manifest in golden().items():
        config = manifest["spec"]["rayClusterConfig"]
        yield f"{name}-head", config["headGroupSpec"]["template"]["spec"]
        for group in config["workerGroupSpecs"]:
            yield f"{name}-{group['groupName']}", group["template"]["spec"]
    for job in (
        migrate_job("search", "shop", owner(), spec(), {}, SETTINGS),
        erase_job("search", "shop", owner(), spec(), SETTINGS),
    ):
        yield job["metadata"]["name"].rsplit("-", 1)[0], job["spec"]["template"]["spec"]


PODS = dict(_pods())


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_meets_the_restricted_pod_security_standard(pod: Pod) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    allowed = {"emptyDir", "secret", "ephemeral"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_may_write_to_its_own_volumes_alone(pod: Pod) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        assert mount["name"] in volumes
        assert mount.get("readOnly") or "emptyDir" in volumes[mount["name"]]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_says_what_it_needs_and_has_a_limit_of_memory(pod: Pod) -> None:
    resources = pod["containers"][0]["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"]


def test_only_a_head_that_scales_its_workers_has_a_token_of_the_api_server() -> None:
    with_token = {name for name, pod in PODS.items() if pod["automountServiceAccountToken"]}
    assert with_token == {"by-role-head"}


def _worker(**ray: Any) -> Pod:
    config = built(shop=spec(ray=ray))["spec"]["rayClusterConfig"]
    template: Pod = config["workerGroupSpecs"][0]["template"]
    return template


def _templated(template: Pod) -> Pod:
    return _worker(workers={"template": template})


def _container(template: Pod) -> Pod:
    container: Pod = next(c for c in template["spec"]["containers"] if c["name"] == "ray")
    return container


def test_a_template_adds_what_the_operator_says_nothing_of() -> None:
    found = _templated({"metadata": {"annotations": {"team": "search"}}, "spec": {"hostname": "here"}})
    assert found["metadata"]["annotations"] == {"team": "search"}
    assert found["metadata"]["labels"] == _worker()["metadata"]["labels"]
    assert found["spec"] == {**_worker()["spec"], "hostname": "here"}


def test_a_template_changes_an_environment_variable_by_its_name() -> None:
    reference = {"name": "OMP_NUM_THREADS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
    added = {"name": "HTTP_PROXY", "value": "http://proxy:3128"}
    found = _container(_templated({"spec": {"containers": [{"name": "ray", "env": [reference, added]}]}}))
    variables = {one["name"]: one for one in found["env"]}
    assert variables["OMP_NUM_THREADS"] == reference  # no value beside it, which the API server would refuse
    assert variables["HTTP_PROXY"] == added
    assert len(variables) == len(found["env"]) == len(_container(_worker())["env"]) + 1


def test_a_template_gives_a_volume_another_source() -> None:
    claim = {"name": "state", "persistentVolumeClaim": {"claimName": "cache"}}
    found = _templated({"spec": {"volumes": [claim, {"name": "pictures", "nfs": {"server": "nas"}}]}})
    volumes = {volume["name"]: volume for volume in found["spec"]["volumes"]}
    assert volumes["state"] == claim
    assert list(volumes) == ["state", "tmp", "credentials", "pictures"]


def test_a_template_adds_containers_and_changes_ours_field_by_field() -> None:
    ours = {"name": "ray", "resources": {"limits": {"memory": "9Gi"}}}
    found = _templated({"spec": {"containers": [ours, {"name": "logs", "image": "fluent-bit"}]}})
    assert [container["name"] for container in found["spec"]["containers"]] == ["ray", "logs"]
    assert _container(found)["resources"]["limits"] == {"memory": "9Gi"}
    assert _container(found)["resources"]["requests"] == _container(_worker())["resources"]["requests"]


def test_a_template_mounts_by_path() -> None:
    mounts = [
        {"name": "pictures", "mountPath": "/pictures"},
        {"name": "fast", "mountPath": "/var/lib/visualindex"},
    ]
    found = _container(_templated({"spec": {"containers": [{"name": "ray", "volumeMounts": mounts}]}}))
    where = {mount["mountPath"]: mount["name"] for mount in found["volumeMounts"]}
    assert where["/pictures"] == "pictures"
    assert where["/var/lib/visualindex"] == "fast"
    assert len(where) == len(_container(_worker())["volumeMounts"]) + 1


def test_lists_without_names_are_replaced() -> None:
    assert merged({"command": ["a", "b"]}, {"command": ["c"]}) == {"command": ["c"]}


def test_where_pods_may_run_is_as_the_spec_states_it() -> None:
    tolerations = [{"key": "pool", "operator": "Exists"}]
    workers = {"node_selector": {"pool": "a"}, "tolerations": tolerations, "priority_class_name": "high"}
    found = _worker(workers=workers, image_pull_secrets=["registry"])["spec"]
    assert found["nodeSelector"] == {"pool": "a"}
    assert found["tolerations"] == tolerations
    assert found["priorityClassName"] == "high"
    assert found["imagePullSecrets"] == [{"name": "registry"}]


def test_a_cache_of_a_storage_class_lives_as_long_as_its_pod() -> None:
    [state] = [
        v
        for v in _worker(cache={"size": "20Gi", "storage_class": "fast"})["spec"]["volumes"]
        if v["name"] == "state"
    ]
    claim = state["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "20Gi")


def test_an_index_whose_database_needs_no_secret_gives_it_to_its_jobs_as_it_is() -> None:
    plain = spec(postgres={"dsn": "postgresql://db/shop"})
    [container] = migrate_job("search", "shop", owner(), plain, {}, SETTINGS)["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["env"] == [{"name": "VISUALINDEX_POSTGRES_DSN", "value": "postgresql://db/shop"}]
