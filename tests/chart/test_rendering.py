"""What the chart installs for which values."""

import re
import tomllib
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    ROOT,
    Document,
    containers,
    environment,
    kinds,
    notes,
    only,
    pods,
    render,
)
from tests.chart.value_sets import VALUE_SETS

from visualindex.spec import load_specs, parse_spec
from visualindex_operator import children
from visualindex_operator.settings import Settings

CRD = "visualindexes.visualindex.dev.yaml"
WARNING = 2


def rules(role: Document) -> dict[str, set[str]]:
    """The verbs of a role for each kind of resource."""
    return {
        f"{group}/{resource}": set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_it_lints_without_a_warning(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= WARNING] == []


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_names_are_distinct_and_every_object_is_labelled(values: dict[str, Any]) -> None:
    documents = render(values)
    names = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]
    assert len(names) == len(set(names))
    for document in documents:
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "visualindex", document["kind"]


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_containers_write_nowhere_but_to_volumes_and_have_a_memory_limit(values: dict[str, Any]) -> None:
    for name, pod in pods(render(values)):
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_the_addresses_of_services_stay_out_of_the_environment(values: dict[str, Any]) -> None:
    """They are named like settings: a Service `visualindex-operator` is VISUALINDEX_OPERATOR_PORT."""
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in pods(render(values)))


def test_the_packaged_chart_is_the_same(tmp_path: Path) -> None:
    values = {"peering": {"enabled": True}}
    archive = helm.package(CHART, destination=tmp_path)
    with helm.Chart.load(archive) as packaged, helm.Chart.load(CHART) as chart:
        options: dict[str, Any] = {"name": "visualindex", "namespace": NAMESPACE}
        assert packaged.render(values, **options) == chart.render(values, **options)
        assert len(packaged.crds) == len(chart.crds) == 1


def test_the_chart_has_the_version_of_the_project() -> None:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (metadata["version"], metadata["appVersion"]) == (version, version)


def test_the_chart_holds_the_definition_of_the_resource() -> None:
    assert (CHART / "files" / CRD).read_text() == (ROOT / "crds" / CRD).read_text(), "stale: make chart"


def test_the_definition_is_rendered_whole_and_outlives_the_release() -> None:
    rendered = only(render(), "CustomResourceDefinition")
    assert rendered["metadata"].pop("annotations")["helm.sh/resource-policy"] == "keep"
    rendered["metadata"].pop("labels")
    written = yaml.safe_load((CHART / "files" / CRD).read_text())
    written["metadata"] = {"name": written["metadata"]["name"]}
    assert rendered == written


def test_the_definition_can_be_left_to_others() -> None:
    assert "CustomResourceDefinition" not in kinds(render({"crds": {"install": False}}))


def test_by_default_the_operator_looks_after_all_namespaces() -> None:
    documents = render()
    role, binding = only(documents, "ClusterRole"), only(documents, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == only(documents, "ServiceAccount")["metadata"]["name"]
    assert environment(only(documents, "Deployment"))["VISUALINDEX_OPERATOR_NAMESPACES"] == ""
    assert not {"Role", "RoleBinding"} & kinds(documents)


def test_named_namespaces_get_a_role_each_and_the_cluster_none() -> None:
    documents = render({"operator": {"namespaces": ["shop", "museum"]}})
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds(documents)
    for kind in ("Role", "RoleBinding"):
        places = [d["metadata"]["namespace"] for d in documents if d["kind"] == kind]
        assert places == ["shop", "museum"]
    subjects = [d["subjects"][0]["namespace"] for d in documents if d["kind"] == "RoleBinding"]
    assert subjects == [NAMESPACE, NAMESPACE]
    assert environment(only(documents, "Deployment"))["VISUALINDEX_OPERATOR_NAMESPACES"] == "shop,museum"


def test_the_operator_may_list_no_secret_and_start_no_pod() -> None:
    allowed = rules(only(render(), "ClusterRole"))
    assert allowed["/secrets"] == {"get", "create", "patch"}
    assert "/pods" not in allowed
    assert allowed["ray.io/rayclusters"] == {"get", "patch"}
    assert "*" not in {verb for verbs in allowed.values() for verb in verbs}
    assert not any("*" in resource for resource in allowed)


def test_the_operator_has_the_rights_to_all_that_it_makes() -> None:
    allowed = rules(only(render(), "ClusterRole"))
    watched = {"list", "watch", "delete"}
    for resource, more in {
        "ray.io/rayservices": watched,
        "batch/jobs": watched,
        "networking.k8s.io/networkpolicies": watched,
        "policy/poddisruptionbudgets": watched,
        "/secrets": set(),
    }.items():
        assert {"get", "create", "patch"} | more <= allowed[resource], resource
    assert "get" in allowed["/services"]
    assert {"get", "patch", "update"} <= allowed["visualindex.dev/visualindexes/status"]


@pytest.mark.parametrize("values", [VALUE_SETS["redis"], VALUE_SETS["some namespaces"], {}], ids=str)
def test_the_operator_understands_the_settings_it_is_given(values: dict[str, Any]) -> None:
    variables = environment(only(render(values), "Deployment"))
    settings = Settings.from_env(variables)
    assert settings.image == variables["VISUALINDEX_OPERATOR_IMAGE"]
    assert settings.namespaces == tuple(values.get("operator", {}).get("namespaces", ()))
    assert (settings.redis is not None) == ("redis" in values)
    assert settings.priority == 100


def test_the_operator_is_let_through_to_ray_pods() -> None:
    """By the NetworkPolicy that it makes for them itself."""
    policy = children.network_policy("indexes", "fashion", [])
    labels = next(pod["metadata"]["labels"] for name, pod in pods(render()) if name.endswith("-operator"))
    admitted = [
        peer["podSelector"]["matchLabels"]
        for rule in policy["spec"]["ingress"]
        for peer in rule.get("from", ())
    ]
    assert any(selector.items() <= labels.items() for selector in admitted)


def test_a_single_operator_is_replaced_by_ending_it_first() -> None:
    deployment = only(render(), "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1
    assert environment(deployment)["VISUALINDEX_OPERATOR_PEERING"] == ""


def test_a_budget_never_blocks_the_drain_of_a_single_operator() -> None:
    budget = only(render(), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget


@pytest.mark.parametrize(
    ("namespaces", "kind"), [([], "ClusterKopfPeering"), (["shop", "museum"], "KopfPeering")]
)
def test_two_operators_see_each_other_with_distinct_priorities(namespaces: list[str], kind: str) -> None:
    documents = render({"operator": {"replicas": 2, "namespaces": namespaces}, "peering": {"enabled": True}})
    deployments = [environment(document) for document in documents if document["kind"] == "Deployment"]
    assert [each["VISUALINDEX_OPERATOR_PRIORITY"] for each in deployments] == ["100", "99"]
    peerings = [document["metadata"] for document in documents if document["kind"] == kind]
    assert len(peerings) == max(1, len(namespaces))
    assert {each["name"] for each in peerings} == {
        each["VISUALINDEX_OPERATOR_PEERING"] for each in deployments
    }
    role = next(document for document in documents if document["kind"] in ("Role", "ClusterRole"))
    assert "patch" in rules(role)[f"kopf.dev/{kind.lower()}s"]


def test_both_operators_are_behind_the_service_and_the_budget() -> None:
    documents = render({"operator": {"replicas": 2}, "peering": {"enabled": True}})
    operators = [pod["metadata"]["labels"] for name, pod in pods(documents) if "operator" in name]
    assert len(operators) == 2
    for selector in (
        only(documents, "Service")["spec"]["selector"],
        only(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert all(selector.items() <= labels.items() for labels in operators)
    selectors = [d["spec"]["selector"]["matchLabels"] for d in documents if d["kind"] == "Deployment"]
    assert [sum(s.items() <= labels.items() for labels in operators) for s in selectors] == [1, 1]


def test_the_installed_redis_becomes_the_operators_default() -> None:
    documents = render({"redis": {"enabled": True}})
    settings = environment(only(documents, "Deployment"))
    service = only(documents, "Service", "visualindex-redis")
    assert settings["VISUALINDEX_OPERATOR_REDIS_ADDRESS"] == f"visualindex-redis.{NAMESPACE}.svc:6379"
    assert service["spec"]["ports"][0]["port"] == 6379
    name, _, key = settings["VISUALINDEX_OPERATOR_REDIS_PASSWORD_SECRET"].partition("/")
    assert only(documents, "Secret", name)["data"][key]


def test_a_redis_elsewhere_installs_nothing() -> None:
    documents = render(VALUE_SETS["redis elsewhere"])
    settings = environment(only(documents, "Deployment"))
    assert settings["VISUALINDEX_OPERATOR_REDIS_ADDRESS"] == "redis.example.org:6379"
    assert settings["VISUALINDEX_OPERATOR_REDIS_PASSWORD_SECRET"] == "mine/pw"
    assert "StatefulSet" not in kinds(documents)


def test_a_digest_wins_over_the_tag() -> None:
    documents = render({"image": {"tag": "1.2", "digest": "sha256:" + "a" * 64}})
    image = "visualindex@sha256:" + "a" * 64
    assert environment(only(documents, "Deployment"))["VISUALINDEX_OPERATOR_IMAGE"] == image
    assert {container["image"] for _, pod in pods(documents) for container in pod["spec"]["containers"]} == {
        image
    }


def test_pods_with_data_do_not_restart_for_a_new_chart() -> None:
    """Their volumes may be emptyDirs: nothing in their templates may name a version."""
    for name, pod in pods(render({"redis": {"enabled": True}})):
        if "redis" in name:
            assert not re.search(r"0\.1\.0|helm\.sh", yaml.safe_dump(pod))


def test_metrics_are_read_from_the_operator_and_from_ray_pods() -> None:
    values = {"monitoring": {"enabled": True}, "operator": {"namespaces": ["shop"]}}
    documents = render(values)
    ray = only(documents, "PodMonitor", "visualindex-ray")["spec"]
    assert ray["selector"]["matchExpressions"] == [{"key": "ray.io/node-type", "operator": "Exists"}]
    assert ray["namespaceSelector"] == {"matchNames": ["shop"]}
    operator = only(documents, "PodMonitor", "visualindex-operator")["spec"]
    port = operator["podMetricsEndpoints"][0]["port"]
    ports = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert {"name": port, "containerPort": 9090} in ports


def test_an_ingress_leads_to_the_indexs_service_with_tls() -> None:
    ingress = only(render(VALUE_SETS["ingress"]), "Ingress")["spec"]
    assert ingress["tls"] == [{"hosts": ["search.example.org"], "secretName": "search-tls"}]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "fashion-serve-svc", "port": {"number": 8000}}


def test_a_route_of_an_index_that_shares_a_cluster_has_its_path() -> None:
    documents = render(VALUE_SETS["gateways"])
    route = only(documents, "HTTPRoute", "visualindex-stamps")["spec"]
    assert route["rules"][0]["matches"][0]["path"]["value"] == "/stamps"
    assert route["rules"][0]["backendRefs"] == [{"name": "fashion-serve-svc", "port": 8000}]
    listener = only(documents, "Gateway")["spec"]["listeners"][0]
    assert listener["tls"]["certificateRefs"] == [{"name": "b-tls"}]


def test_what_is_for_trials_says_so() -> None:
    values = {"dev": {"enabled": True}}
    parts = [d["metadata"] for d in render(values) if d["metadata"]["name"] == "visualindex-dev"]
    trial = [part["labels"].get("visualindex.dev/for-trials-only") for part in parts]
    assert trial.count("true") == 3  # Secret, Service, StatefulSet; the NetworkPolicy holds nothing
    assert "FOR TRIALS ONLY" in notes(values)
    assert "FOR TRIALS ONLY" not in notes()


def test_the_notes_hold_an_index_that_is_valid() -> None:
    text = notes({"dev": {"enabled": True}}).split("<<'END'\n")[1].split("\nEND\n")[0]
    index = parse_spec(yaml.safe_load(text), "NOTES.txt")
    assert index.spec.postgres.dsn_secret_ref is not None


def test_the_trial_example_uses_what_the_chart_installs() -> None:
    documents = render({"dev": {"enabled": True}})
    secret = only(documents, "Secret", "visualindex-dev")
    service = only(documents, "Service", "visualindex-dev")
    (index,) = load_specs([ROOT / "examples/kubernetes/trial.yaml"])
    postgres, s3 = index.spec.postgres.dsn_secret_ref, index.spec.storage.s3
    assert postgres
    assert s3
    assert (postgres.name, s3.credentials_secret_ref) == ("visualindex-dev", "visualindex-dev")
    assert {postgres.key, "accessKey", "secretKey"} <= set(secret["data"])
    host, _, port = s3.endpoint.partition(":")
    assert host == service["metadata"]["name"]
    assert int(port) in {each["port"] for each in service["spec"]["ports"]}
    init = next(containers(pod) for name, pod in pods(documents) if name == "visualindex-dev")[0]
    assert init["command"][-1].endswith(f"/{s3.bucket}")
