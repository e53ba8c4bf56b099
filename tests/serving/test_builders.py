"""The builders make the deployments that the Serve configuration has settings for, and the local head applies those."""

from typing import Any

import pytest
from ray.serve._private.build_app import build_app

from visualindex.serve_config import applications, encoder_applications, serve_config, shards_beside
from visualindex.spec import VisualIndex
from visualindex_serving.app import build_encoder, build_gateway, build_index, build_shards

from .conftest import spec_document

BUILDERS = {
    "visualindex_serving.app:build_index": build_index,
    "visualindex_serving.app:build_gateway": build_gateway,
    "visualindex_serving.app:build_shards": build_shards,
    "visualindex_serving.app:build_encoder": build_encoder,
}
SPECS: list[dict[str, Any]] = [
    {},
    {"index": {"shards": 3, "replicas": 2}, "gateway": {"replicas": 4}},
    {"encoder": {"placement": "deployment", "replicas": 3}},
    {"rerank": {"mode": "auto", "replicas": 3, "memory": "64Mi"}},
]


def built(application: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = BUILDERS[application["import_path"]]({**application["args"], **more})
    return {d.name: d for d in build_app(made, name=application["name"]).deployments}


@pytest.mark.parametrize("spec", SPECS)
def test_settings_name_every_deployment_and_no_other(spec: dict[str, Any]) -> None:
    resource = VisualIndex.model_validate(spec_document(**spec))
    made = applications(resource, route_prefix="/", environment={}, workers=2)
    for application in [*made, *encoder_applications(resource, environment={}, workers=2)]:
        assert set(built(application)) == {d["name"] for d in application["deployments"]}


@pytest.mark.parametrize("spec", SPECS)
def test_what_stands_beside_an_index_has_its_shards_and_nothing_else(spec: dict[str, Any]) -> None:
    resource = VisualIndex.model_validate(spec_document(**spec))
    beside = shards_beside(resource, environment={"A": "1"}, workers=1, roles=False)
    (index, _) = applications(resource, route_prefix="/", environment={"A": "1"}, workers=1, roles=False)
    shards = [one for one in index["deployments"] if one["name"].startswith("shard-")]
    assert beside["deployments"] == shards
    assert set(built(beside)) == {one["name"] for one in shards}
    assert (beside["args"], beside["runtime_env"]) == (index["args"], index["runtime_env"])


@pytest.mark.parametrize("spec", SPECS)
def test_the_local_head_gives_deployments_their_settings(spec: dict[str, Any]) -> None:
    resource = VisualIndex.model_validate(spec_document(**spec))
    for application in serve_config([resource], host="127.0.0.1", port=8000)["applications"]:
        deployments = built(application, deployments=application["deployments"])
        for settings in application["deployments"]:
            one = deployments[settings["name"]]
            assert one.num_replicas == settings["num_replicas"]
            wanted = settings["ray_actor_options"]
            assert {key: one.ray_actor_options[key] for key in wanted} == wanted
