"""The formulas against what is really built, held and stored, of 5,000 images."""

from pathlib import Path

import pytest
from benchmarks.coefficients import fresh, one_build, stored

from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.formulas import embedding_bytes, fresh_bytes, hot_bytes, segment_bytes
from visualindex.capacity.sizes import FAMILIES
from visualindex.spec.models import IndexSpec, Spec

ROWS, DIMENSION = 5_000, 128
SPEC = Spec.model_validate({"encoder": {"dimension": DIMENSION}})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_segment_takes_the_bytes_that_were_planned(family: str, tmp_path: Path) -> None:
    built = one_build(family, ROWS, tmp_path, DIMENSION)
    assert segment_bytes(SPEC, family, ROWS, DEFAULTS).total == pytest.approx(built["disk"], rel=0.05)
    assert hot_bytes(SPEC.index, family, ROWS, DIMENSION, DEFAULTS) == pytest.approx(
        built["memory"], rel=0.05
    )
    assert DEFAULTS.spool_bytes * ROWS == pytest.approx(built["spool"], rel=0.05)


def test_fresh_images_take_the_memory_that_was_planned() -> None:
    held = ROWS * (fresh(ROWS, DIMENSION)["fresh_row_bytes"] + 2 * DIMENSION)
    assert fresh_bytes(IndexSpec(), ROWS, DIMENSION, DEFAULTS) == pytest.approx(held, rel=0.15)


def test_a_database_takes_the_bytes_that_were_planned() -> None:
    found = stored(ROWS, DIMENSION)
    assert ROWS * embedding_bytes(DIMENSION, DEFAULTS) == pytest.approx(
        found.sizes["image_embeddings"], rel=0.2
    )
    assert ROWS * DEFAULTS.image_row_bytes == pytest.approx(found.sizes["images"], rel=0.2)
    assert ROWS * DEFAULTS.change_bytes == pytest.approx(found.sizes["changes"], rel=0.2)
    assert ROWS * (2 * DIMENSION + DEFAULTS.wal_bytes) == pytest.approx(found.wal_bytes, rel=0.25)
