"""Every field of the spec says what it is, and docs/spec.md says it too."""

from pathlib import Path

import pytest

from visualindex.spec.fields import SpecField, walk_fields
from visualindex.spec.models import VisualIndex
from visualindex.spec.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "spec.md"
FIELDS = list(walk_fields(VisualIndex))


def test_the_walk_reaches_the_deepest_fields() -> None:
    paths = {field.path for field in FIELDS}
    assert {"metadata.name", "spec.index.hnsw.efSearch", "spec.postgres.dsnSecretRef.key"} <= paths
    assert {"spec.storage.s3.bucket", "spec.searchLog.retentionDays"} <= paths


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_every_field_has_a_description_that_is_a_sentence(field: SpecField) -> None:
    assert field.info.description, f"{field.path} has no description"
    assert field.info.description.endswith("."), f"the description of {field.path} is no sentence"


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_every_field_stands_on_the_page(field: SpecField) -> None:
    assert f"| `{field.path}` |" in PAGE.read_text()


def test_the_page_is_not_stale() -> None:
    hint = "docs/spec.md is stale: run `python -m visualindex.spec.reference > docs/spec.md`"
    assert PAGE.read_text() == reference(), hint
