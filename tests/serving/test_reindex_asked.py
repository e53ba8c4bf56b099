"""Who carries a rebuild out: gateways, unless the spec gives rebuilds a place of their own and an operator is there."""

from pathlib import Path

import pytest
from tests.serving.conftest import spec_document

from visualindex.catalog import APART, PLACE
from visualindex.credentials import Credentials
from visualindex.spec import Spec, VisualIndex
from visualindex_serving.config import Mode, Runtime
from visualindex_serving.reindex_asked import reindex_parameters


def test_a_rebuild_is_the_gateways_unless_the_spec_says_otherwise() -> None:
    usual = Spec.model_validate({"reindex": {"attempts": 4}})
    assert reindex_parameters(usual, activate=True) == {"activate": True, "attempts": 4}
    apart = Spec.model_validate({"reindex": {"placement": "Job"}})
    assert reindex_parameters(apart, activate=False)[PLACE] == APART


@pytest.mark.parametrize(("mode", "placement"), [("cluster", "Job"), ("local", "Service")])
def test_without_an_operator_gateways_carry_every_rebuild_out(mode: Mode, placement: str) -> None:
    runtime = Runtime(Credentials("postgresql://db"), Path("/state"), mode, "", 1)
    resource = VisualIndex.model_validate(spec_document(reindex={"placement": "Job", "chunkImages": 4}))
    placed = runtime.placed(resource).spec.reindex
    assert (placed.placement, placed.chunk_images) == (placement, 4)
