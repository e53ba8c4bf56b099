"""What stands around a cluster, and how it is called."""

import base64
from typing import Any

import pytest
from tests.operator_builders.built import BUCKET, LONGEST_NAME, SETTINGS, Manifest, built, owner, spec

from visualindex.planning.shape import as_resource, cluster_shape
from visualindex_operator import children, names


def _all(name: str) -> list[Manifest]:
    """Every child of an index that has a cluster of its name."""
    owners, wanted = [owner(name)], spec(encoder={"num_gpus": 1}, ray={"workers": {"layout": "ByRole"}})
    shape = cluster_shape([as_resource(name, wanted)])
    return [
        children.credentials("search", name, owners, {}, None),
        children.new_api_keys("search", name, owner(name)),
        children.network_policy("search", name, owners),
        *(children.disruption_budget("search", name, owners, group.name, 2) for group in shape.groups),
        children.migrate_job("search", name, owner(name), wanted, {"image": "visualindex:1"}, SETTINGS),
        children.erase_job("search", name, owner(name), wanted, SETTINGS),
        built(name, **{name: wanted}),
    ]


@pytest.mark.parametrize("child", _all(LONGEST_NAME), ids=lambda child: child["kind"])
def test_names_and_labels_of_the_longest_index_are_short_enough(child: Manifest) -> None:
    assert len(child["metadata"]["name"]) <= 63
    assert all(len(value) <= 63 for value in child["metadata"]["labels"].values())


def test_names_that_others_derive_are_short_enough() -> None:
    assert len(names.serve_service(LONGEST_NAME)) <= 63
    assert len(names.head_service(LONGEST_NAME)) <= 63


def test_no_two_children_of_a_kind_have_one_name() -> None:
    found = [(child["kind"], child["metadata"]["name"]) for child in _all("shop")]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("child", _all("shop"), ids=lambda child: child["kind"])
def test_every_child_goes_with_its_index_and_is_found_by_its_cluster(child: Manifest) -> None:
    assert [one["uid"] for one in child["metadata"]["ownerReferences"]] == ["uid-of-shop"]
    assert child["metadata"]["labels"][names.CLUSTER_LABEL] == "shop"
    assert child["metadata"]["namespace"] == "search"


def test_who_reaches_the_pods() -> None:
    policy = children.network_policy("search", "shop", [owner()])["spec"]
    assert policy["podSelector"] == {"matchLabels": {names.CLUSTER_LABEL: "shop"}}
    assert policy["policyTypes"] == ["Ingress"]
    each_other, everybody, operators = policy["ingress"]
    assert each_other == {"from": [{"podSelector": {"matchLabels": {names.CLUSTER_LABEL: "shop"}}}]}
    assert [port["port"] for port in everybody["ports"]] == [8000, 8080]
    assert "from" not in everybody
    assert {port["port"] for port in operators["ports"]} == {8000, 8265, 52365}
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in operators["from"]] == [
        "kuberay-operator",
        "visualindex-operator",
    ]
    assert all(peer["namespaceSelector"] == {} for peer in operators["from"])


@pytest.mark.parametrize(("pods", "stay"), [(1, 0), (2, 1), (5, 4)])
def test_a_drain_takes_one_pod_of_a_group_at_a_time_also_the_only_one(pods: int, stay: int) -> None:
    budget = children.disruption_budget("search", "shop", [owner()], "worker", pods)["spec"]
    assert budget["minAvailable"] == stay
    assert budget["selector"]["matchLabels"] == {names.CLUSTER_LABEL: "shop", names.PART_LABEL: "worker"}


def test_a_budget_counts_the_pods_of_its_group_and_no_others() -> None:
    [group] = built(shop=spec())["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    budget = children.disruption_budget("search", "shop", [owner()], group["groupName"], 2)
    labels = group["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    job = children.migrate_job("search", "shop", owner(), spec(), {}, SETTINGS)
    assert not budget["spec"]["selector"]["matchLabels"].items() <= job["metadata"]["labels"].items()


def _container(job: Manifest) -> dict[str, Any]:
    [container] = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_the_migration_brings_the_schema_and_then_the_keys() -> None:
    job = children.migrate_job("search", "shop", owner(), spec(), {}, SETTINGS)
    [*_, command] = _container(job)["command"]
    migrate, keys = command.split(" && ")
    assert migrate.startswith("visualindex database migrate")
    assert keys == "visualindex database keys --index shop --from /etc/visualindex/keys"
    assert job["spec"]["template"]["spec"]["volumes"][1]["secret"] == {"secretName": "shop-api-keys"}


def test_the_migration_reads_the_keys_that_the_spec_names() -> None:
    job = children.migrate_job(
        "search", "shop", owner(), spec(access={"keys_secret_ref": "own"}), {}, SETTINGS
    )
    assert job["spec"]["template"]["spec"]["volumes"][1]["secret"] == {"secretName": "own"}


def test_jobs_take_the_database_from_its_secret() -> None:
    reference = {"secretKeyRef": {"name": "database", "key": "dsn"}}
    for job in (
        children.migrate_job("search", "shop", owner(), spec(), {}, SETTINGS),
        children.erase_job("search", "shop", owner(), spec(), SETTINGS),
    ):
        assert _container(job)["env"][0] == {"name": "VISUALINDEX_POSTGRES_DSN", "valueFrom": reference}


def test_erasing_knows_the_bucket_and_its_keys_and_when_to_give_up() -> None:
    job = children.erase_job("search", "shop", owner(), spec(deletion_timeout_seconds=90), SETTINGS)
    command = _container(job)["command"]
    assert command[:5] == ["visualindex", "database", "erase", "--index", "shop"]
    assert command[command.index("--within") + 1] == "90"
    assert BUCKET["s3"]["bucket"] in command[command.index("--storage-json") + 1]
    secrets = [one["valueFrom"]["secretKeyRef"]["name"] for one in _container(job)["env"][1:]]
    assert secrets == ["bucket-keys", "bucket-keys"]
    assert job["spec"]["activeDeadlineSeconds"] == 150


def test_how_long_deleting_may_take_does_not_hold_a_migration() -> None:
    patient = spec(deletion_timeout_seconds=86_400)
    job = children.migrate_job("search", "shop", owner(), patient, {}, SETTINGS)
    assert job["spec"]["activeDeadlineSeconds"] == 600


def test_a_job_has_another_name_when_its_inputs_are_others() -> None:
    inputs = [{"image": "a"}, {"image": "b"}]
    one, other = (names.job("shop", "migrate", each) for each in inputs)
    assert one != other
    assert one == names.job("shop", "migrate", {"image": "a"})


def test_new_api_keys_are_never_the_same() -> None:
    one, other = (children.new_api_keys("search", "shop", owner()) for _ in range(2))
    assert one["stringData"]["admin"].startswith("vi_")
    assert one["stringData"] != other["stringData"]


def test_credentials_are_in_the_order_of_their_names() -> None:
    entries = {name: base64.b64encode(b"x").decode() for name in ("b.dsn", "a.dsn")}
    assert list(children.credentials("search", "shop", [owner()], entries, None)["data"]) == [
        "a.dsn",
        "b.dsn",
    ]
