"""The applications of an index on a cluster: what a change of its spec makes Serve replace."""

import json
from typing import Any

import pytest
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeDeploySchema

from visualindex import serve_config
from visualindex.credentials import Credentials, files_environment
from visualindex.serve_config import (
    applications,
    cluster_config,
    encoder_applications,
    per_node,
    serve_environment,
)
from visualindex.spec import API_VERSION, KIND, VisualIndex
from visualindex.spec.models import EncoderSpec, IndexSpec, Spec

ENVIRONMENT = files_environment("shop", Credentials("postgres://db"))
BUCKET = {"endpoint": "minio:9000", "bucket": "pictures"}


def index(**spec: Any) -> VisualIndex:
    metadata = {"name": "shop", "uid": "2f1c", "labels": {"team": "search"}}
    return VisualIndex.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    )


def config(
    environment: dict[str, str] = ENVIRONMENT, prefix: str = "/shop", workers: int = 2, **spec: Any
) -> dict[str, Any]:
    resource = index(**spec)
    made = applications(resource, route_prefix=prefix, environment=environment, workers=workers)
    encoders = encoder_applications(resource, environment=environment, workers=workers)
    return cluster_config([*made, *encoders])


def replaced(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The applications whose replicas Serve replaces, by Serve's own rule."""
    old, new = versions(before), versions(after)
    return {name for name in new if new[name] != old[name]}


def versions(configuration: dict[str, Any]) -> dict[str, str]:
    schema = ServeDeploySchema.model_validate(configuration)
    return {app.name: get_app_code_version(app) for app in schema.applications}


def settings(configuration: dict[str, Any], deployment: str) -> dict[str, Any]:
    found = [d for a in configuration["applications"] for d in a["deployments"] if d["name"] == deployment]
    (one,) = found
    return dict(one)


def test_an_index_has_an_application_for_its_shards_and_one_for_its_gateways() -> None:
    made = config()
    assert [(a["name"], a["route_prefix"]) for a in made["applications"]] == [
        ("gateway-shop", "/shop"),
        ("index-shop", None),
    ]
    assert made["http_options"]["host"] == "0.0.0.0"  # noqa: S104 - compared
    assert all(a["runtime_env"] == {"env_vars": ENVIRONMENT} for a in made["applications"])


def test_without_an_environment_nothing_is_said_of_one() -> None:
    assert all("runtime_env" not in a for a in config(environment={})["applications"])


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": {"replicas": 4}},
        {"index": {"replicas": 2}, "gateway": {"replicas": 1}},
        {"profile": "small"},
        {"suspend": True},
        {"changePolicy": "Approve"},
        {"deletionPolicy": "Delete", "deletionTimeoutSeconds": 60},
        {"ray": {"image": "another:2"}},
        {"postgres": {"dsnSecretRef": {"name": "other", "key": "dsn"}}},
        {"access": {"keysSecretRef": "others"}},
        {"encoder": {"replicas": 7}},
    ],
)
def test_what_no_code_reads_replaces_nothing(change: dict[str, Any]) -> None:
    assert replaced(config(), config(**change)) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"searchLimit": 5}},
        {"fetch": {"enabled": False}},
        {"searchLog": {"retentionDays": 7}},
        {"access": {"mode": "keys"}},
        {"storage": {"thumbnailSizes": [64, 128, 256]}},
        {"index": {"targetRecall": 0.9}},
        {"index": {"keepGenerations": 3}},
        {"generation": "0123456789abcdef"},
        {"gateway": {"maxConcurrentRequests": 8}},
        {"postgres": {"maxConnections": 8}},
    ],
)
def test_what_gateways_read_replaces_gateways_only(change: dict[str, Any]) -> None:
    assert replaced(config(), config(**change)) == {"gateway-shop"}


def test_what_shards_alone_read_replaces_shards_only() -> None:
    assert replaced(config(), config(index={"pollIntervalMs": 50})) == {"index-shop"}


def test_the_size_of_the_cache_concerns_gateways_whose_jobs_judge_generations() -> None:
    assert replaced(config(), config(ray={"cache": {"size": "1Gi"}})) == {"gateway-shop", "index-shop"}


@pytest.mark.parametrize(
    "change",
    [
        {"index": {"hnsw": {"efSearch": 200}}},
        {"index": {"memoryPerShard": "1Gi"}},
        {"storage": {"s3": BUCKET}},
    ],
)
def test_what_shards_read_and_gateways_have_built_replaces_both(change: dict[str, Any]) -> None:
    assert replaced(config(), config(**change)) == {"gateway-shop", "index-shop"}


def test_what_only_gateways_read_of_reranking_replaces_no_reranker() -> None:
    """Patches are the same under `auto` and `always`; to keep some at all is another matter."""
    kept = config(rerank={"mode": "auto"})
    for change in ({"mode": "always"}, {"budgetMs": 20}, {"candidates": 20}, {"exactImage": True}):
        assert replaced(kept, config(rerank={"mode": "auto", **change})) == {"gateway-shop"}, change
    assert replaced(kept, config(rerank={"mode": "auto", "replicas": 5})) == set()
    assert replaced(config(), kept) == {"gateway-shop", "index-shop"}
    assert settings(kept, "reranker")["ray_actor_options"]["resources"] == {"visualindex-shard": 0.001}


def test_the_number_of_shards_and_the_credentials_replace_both() -> None:
    both = {"index-shop", "gateway-shop"}
    assert replaced(config(), config(index={"shards": 2})) == both
    rotated = files_environment("shop", Credentials("postgres://db?password=new"))
    assert replaced(config(), config(environment=rotated)) == both


def test_where_a_gateway_answers_is_no_reason_to_replace_it() -> None:
    assert replaced(config(), config(prefix="/")) == set()


def test_credentials_of_a_bucket_are_not_in_the_arguments() -> None:
    made = config(storage={"s3": {**BUCKET, "credentialsSecretRef": "bucket-keys"}})
    assert "bucket-keys" not in json.dumps(made)
    assert replaced(made, config(storage={"s3": BUCKET})) == set()


def test_an_encoder_is_an_application_of_its_own_and_reads_its_weights_from_the_bucket() -> None:
    encoder = {"family": "open_clip", "model": "ViT-B-32", "checkpoint": "s3://models/b32", "numGpus": 1}
    made = config(encoder=encoder, storage={"s3": BUCKET})
    (document,) = [a["args"]["index"] for a in made["applications"] if a["name"].startswith("encoder-shop-")]
    assert document["spec"] == {"encoder": encoder, "storage": {"s3": BUCKET}}
    one = settings(made, "encoder")
    assert (one["num_replicas"], one["ray_actor_options"]["num_gpus"]) == (2, 1)


def test_shards_are_given_gpus_where_the_spec_says_so_and_are_told_of_them() -> None:
    gpus = {"family": "ivf-sq8", "numGpus": 0.5}
    made = config(index={**gpus, "shards": 2})
    assert {settings(made, f"shard-{n}")["ray_actor_options"]["num_gpus"] for n in range(2)} == {0.5}
    (shards,) = [a for a in made["applications"] if a["name"] == "index-shop"]
    assert shards["args"]["index"]["spec"]["index"] == {"shards": 2, **gpus}
    without = config(index={"family": "ivf-sq8"})
    assert "num_gpus" not in settings(without, "shard-0")["ray_actor_options"]
    assert replaced(config(), without) == {"gateway-shop"}
    assert replaced(without, config(index=gpus)) == {"index-shop"}


GPU: dict[str, Any] = {
    "family": "open_clip",
    "model": "ViT-B-32",
    "checkpoint": "s3://models/b32",
    "numGpus": 1,
}


def names(configuration: dict[str, Any]) -> set[str]:
    return {app["name"] for app in configuration["applications"]}


def test_another_encoder_is_another_application_and_moves_no_shard() -> None:
    before, after = config(encoder=GPU), config(encoder={**GPU, "dimension": 128})
    assert len(names(before) | names(after)) == 4
    assert replaced_of_both(before, after) == {"gateway-shop"}


def replaced_of_both(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    old, new = versions(before), versions(after)
    return {name for name in new.keys() & old.keys() if new[name] != old[name]}


def test_while_an_index_moves_it_has_both_encoders_each_as_before() -> None:
    old, new = index(encoder=GPU), index(encoder={**GPU, "dimension": 128, "replicas": 1})
    both = encoder_applications(new, [old, new], environment={}, workers=2)
    alone = [encoder_applications(one, environment={}, workers=2) for one in (old, new)]
    assert sorted(both, key=lambda app: str(app["name"])) == sorted(
        (app for apps in alone for app in apps), key=lambda app: str(app["name"])
    )
    assert encoder_applications(index(), [index(encoder={"dimension": 8})], environment={}, workers=2) == []


def test_how_an_encoder_is_fed_replaces_it_and_the_gateways() -> None:
    (encoder,) = [name for name in names(config(encoder=GPU)) if name.startswith("encoder-")]
    changed = replaced(config(encoder=GPU), config(encoder={**GPU, "maxBatchSize": 8}))
    assert changed == {encoder, "gateway-shop"}


def test_saying_a_default_is_saying_nothing() -> None:
    said = config(
        index={"replicas": 2, "hnsw": {"m": 32}}, limits={"searchLimit": 200}, access={"mode": "auto"}
    )
    assert json.dumps(said) == json.dumps(config())


def test_replicas_are_spread_and_go_to_nodes_of_their_role() -> None:
    made = config(index={"shards": 2, "replicas": 3}, gateway={"replicas": 2}, workers=2)
    assert settings(made, "shard-1") == {
        "name": "shard-1",
        "num_replicas": 3,
        "max_replicas_per_node": 2,
        "ray_actor_options": {
            "num_cpus": 0.25,
            "memory": 2 * 1024**3,
            "resources": {"visualindex-shard": 0.001},
        },
    }
    assert settings(made, "gateway")["max_replicas_per_node"] == 1


def test_on_a_cluster_of_others_replicas_go_anywhere() -> None:
    made = applications(index(), route_prefix="/", environment={}, workers=1, roles=False)
    needs = [d["ray_actor_options"] for a in made for d in a["deployments"]]
    assert all("resources" not in one for one in needs)


@pytest.mark.parametrize(
    ("replicas", "nodes", "most"),
    [(1, 2, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 2, 4), (6, 3, 2), (2, 9, 1)],
)
def test_a_node_takes_as_few_as_the_nodes_allow_in_steps(replicas: int, nodes: int, most: int) -> None:
    assert per_node(replicas, nodes) == most


def test_small_changes_of_deadlines_leave_the_environment_of_pods_alone() -> None:
    same = [index(limits={"searchTimeoutMs": ms}) for ms in (500, 2000, 4000)]
    assert len({json.dumps(serve_environment([one])) for one in same}) == 1


@pytest.mark.parametrize(("search_ms", "write_ms"), [(50, 100), (2000, 20_000), (4001, 100), (90_000, 1_000)])
def test_the_proxy_waits_longer_than_the_service(search_ms: int, write_ms: int) -> None:
    environment = serve_environment(
        [index(), index(limits={"searchTimeoutMs": search_ms, "writeTimeoutMs": write_ms})]
    )
    searches = int(environment["VISUALINDEX_SEARCH_TIMEOUT_MS"])
    whole = int(environment["RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"])
    assert searches >= search_ms + 1000
    assert whole * 1000 >= max(search_ms, write_ms * 3) + 5000


def test_every_field_is_read_by_an_application_or_left_out_on_purpose() -> None:
    """A new field must be put where its reader is, else it would do nothing on a cluster."""
    assert set(EncoderSpec.model_fields) - serve_config._ENCODER == {"replicas"}
    assert set(IndexSpec.model_fields) - serve_config._SHARD - serve_config._OF_GATEWAY["index"] == {
        "replicas"
    }
    assert set(Spec.model_fields) - set(serve_config._OF_GATEWAY) == {
        "profile",
        "suspend",
        "change_policy",
        "deletion_policy",
        "deletion_timeout_seconds",
    }
    left_out = {
        "gateway": {"replicas"},
        "postgres": {"dsn", "dsn_secret_ref"},
        "rerank": {"replicas", *(serve_config._RERANKER - {"mode"})},
        "access": {"keys_secret_ref"},
        "storage": set(),
        "limits": set(),
        "fetch": set(),
        "search_log": set(),
        "reindex": {"cluster"},
    }
    for part, unread in left_out.items():
        read = serve_config._OF_GATEWAY[part]
        fields = set(Spec.model_fields[part].annotation.model_fields)  # type: ignore[union-attr]
        assert fields - (fields if read is True else set(read)) == unread, part
