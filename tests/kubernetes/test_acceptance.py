"""What the API server accepts and stores is what the models read."""

from typing import Any

import pytest
from tests.kubernetes.conftest import Indexes
from tests.kubernetes.documents import HERE, documents, field_values, resource

from visualindex.spec import from_live, parse_spec
from visualindex.spec.fields import walk_fields
from visualindex.spec.models import PodSpec, Spec

GOOD = [
    (path.stem, document)
    for path in sorted([*(HERE.parents[1] / "examples").rglob("*.yaml"), *(HERE / "good").glob("*.yaml")])
    for document in documents(path)
]
STORAGE = {"s3": {"endpoint": "minio:9000", "bucket": "one"}}
MOVED = {"spec": {"storage": {"s3": {"bucket": "two"}}}}


@pytest.mark.parametrize(("name", "document"), GOOD, ids=[name for name, _ in GOOD])
def test_a_spec_means_the_same_before_and_after_the_api_server(
    name: str, document: dict[str, Any], indexes: Indexes
) -> None:
    indexes.create(document)
    stored = indexes.get(document["metadata"]["name"])
    written = parse_spec(document, name)
    read = from_live(stored)
    assert (read.name, read.spec) == (written.name, written.spec)


def test_a_live_object_with_a_status_is_read(indexes: Indexes) -> None:
    indexes.create(resource())
    indexes.report("shop", {"images": 3, "applied": {"of": {"a": ["newer", "release"]}}}).expect(200)
    live = indexes.get("shop")
    assert live["status"] == {"images": 3, "applied": {"of": {"a": ["newer", "release"]}}}
    assert from_live(live).spec == Spec()


def test_the_good_specs_write_every_field_somewhere() -> None:
    written = {path for _, document in GOOD for path, _ in field_values(document.get("spec", {}), "spec")}
    known = {field.path for field in walk_fields(Spec, "spec.")}
    of_every_pod = {field.path for field in walk_fields(PodSpec)}  # written for the head alone
    missing = {path for path in known - written if path.rsplit(".", 1)[-1] not in of_every_pod}
    assert missing == set()


def test_defaults_are_stored(indexes: Indexes) -> None:
    bare = resource()
    del bare["spec"]
    spec = indexes.create(bare)["spec"]
    assert spec["index"]["hnsw"] == {"m": 32, "efConstruction": 120, "efSearch": 96}
    assert spec["index"]["memoryPerShard"] == "2Gi"
    assert spec["ray"]["mode"] == "KubeRay"
    assert spec["fetch"]["ports"] == [80, 443]
    assert "allowHosts" not in spec["fetch"]


def test_a_mistyped_bucket_is_mended_while_there_are_no_images(indexes: Indexes) -> None:
    indexes.create(resource(storage=STORAGE))
    assert indexes.patch("shop", MOVED).expect(200)["spec"]["storage"]["s3"]["bucket"] == "two"
    indexes.report("shop", {"images": 0}).expect(200)
    assert indexes.patch("shop", {"spec": {"storage": {"s3": {"bucket": "three"}}}}).status == 200


def test_a_suspended_index_moves_its_storage(indexes: Indexes) -> None:
    indexes.create(resource(storage=STORAGE))
    indexes.report("shop", {"images": 7}).expect(200)
    assert indexes.patch("shop", MOVED).status == 422
    indexes.patch("shop", {"spec": {"suspend": True}}).expect(200)
    indexes.patch("shop", MOVED).expect(200)
    indexes.patch("shop", {"spec": {"suspend": False}}).expect(200)


def test_a_suspended_index_moves_to_another_external_cluster(indexes: Indexes) -> None:
    indexes.create(
        resource(
            ray={"mode": "External", "external": {"address": "http://ray:8265", "serveUrl": "http://ray:80"}}
        )
    )
    moved = {"spec": {"ray": {"external": {"address": "http://other:8265"}}}}
    indexes.patch("shop", {"spec": {"ray": {"external": {"serveUrl": "http://ray:81"}}}}).expect(200)
    assert indexes.patch("shop", moved).status == 422
    indexes.patch("shop", {"spec": {"suspend": True}}).expect(200)
    indexes.patch("shop", moved).expect(200)
    indexes.patch("shop", {"spec": {"suspend": False}}).expect(200)


def test_naming_the_cluster_that_is_the_default_is_no_change(indexes: Indexes) -> None:
    indexes.create(resource())
    indexes.patch("shop", {"spec": {"ray": {"cluster": "shop"}}}).expect(200)
    indexes.patch("shop", {"spec": {"ray": {"cluster": None}}}).expect(200)


def test_an_endpoint_changes_while_the_bucket_stays(indexes: Indexes) -> None:
    indexes.create(resource(storage=STORAGE))
    indexes.report("shop", {"images": 7}).expect(200)
    indexes.patch("shop", {"spec": {"storage": {"s3": {"endpoint": "minio.new:9000"}}}}).expect(200)
