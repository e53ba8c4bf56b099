"""Every mistake of a file is told at once: wrong values, broken rules of a section and of those around it, all documents."""

from pathlib import Path

import pytest

from visualindex.spec import SpecError, load_specs

MANY = """
apiVersion: visualindex.dev/v1alpha1
kind: VisualIndex
metadata: {name: first}
spec:
  profil: small
  encoder: {family: open_clip}
  storage: {thumbnailSizes: [9, 8, 7], folder: /x, s3: {endpoint: e, bucket: b}}
  index: {shards: "2", hnsw: {m: 32, efConstruction: 8}}
  attributes:
    - {name: maker, type: keyword}
    - {name: maker, type: keyword}
---
apiVersion: visualindex.dev/v1alpha1
kind: VisualIndex
metadata: {name: Second}
spec:
  ray: {mode: External, cluster: {}, workers: {replicas: 3, maxReplicas: 2}}
  domains: [{name: d, attributes: [nothing]}]
"""


def test_all_mistakes_of_all_documents_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(MANY)
    with pytest.raises(SpecError) as caught:
        load_specs([path])
    told = [
        (problem.document, problem.path, problem.message.split(":")[0][:44])
        for problem in caught.value.problems
    ]
    for expected in (
        (1, "spec.profil", "unknown key `profil`"),
        (1, "spec.encoder", "encoder.model is required for family open_cl"),
        (1, "spec.encoder", "encoder.checkpoint is required for family op"),
        (1, "spec.storage", "storage.folder and storage.s3 exclude each o"),
        (1, "spec.storage", "storage.thumbnailSizes must be three ascendi"),
        (1, "spec.index.shards", "'2' is not a whole number"),
        (1, "spec.index.hnsw", "hnsw.efConstruction must not be below hnsw.m"),
        (1, "spec", "attributes"),
        (2, "metadata.name", "'Second' is not a valid name"),
        (2, "spec.ray", "ray.external is required in mode External, a"),
        (2, "spec.ray", "ray.workers.maxReplicas must not be below ra"),
        (2, "spec.domains[0].attributes[0]", "'nothing' is neither a declared attribute no"),
    ):
        assert expected in told, told
    assert len(told) == len(set(told))


def test_what_was_left_out_makes_no_mistakes_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        "apiVersion: visualindex.dev/v1alpha1\nkind: VisualIndex\nmetadata: {name: a}\n"
        "spec: {encoder: {family: open_clip, model: 5, checkpoint: 'hub:x'}}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_specs([path])
    assert [problem.path for problem in caught.value.problems] == ["spec.encoder.model"]
