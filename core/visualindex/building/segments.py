"""From rows to the files of a segment: put in order, indexed, tuned and written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import write_segment
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.families import (
    Parameters,
    RecallReport,
    build_and_tune,
    choose_family,
    held_out_last,
)
from visualindex.ann.segment import VECTORS
from visualindex.building.measuring import SAMPLE, measured_by
from visualindex.building.spool import Spool
from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.identity import buckets_of
from visualindex.spec.models import IndexSpec

FLAT = "flat"


@dataclass(frozen=True)
class Recipe:
    """How the rows of a segment are indexed."""

    family: str
    target_recall: float
    parameters: Parameters


@dataclass(frozen=True)
class SegmentBuilt:
    """A segment that was written, and what was measured of it."""

    rows: int
    recipe: Recipe
    recall: RecallReport | None
    """None where every row is scanned, which finds all."""


def build_segment(
    spool: Spool,
    directory: Path,
    index: IndexSpec,
    *,
    wanted: Callable[[], bool] = lambda: True,
    threads: int = 1,
) -> SegmentBuilt:
    """Write the spooled rows as a segment. The same rows, in whatever order they came, give the same bytes.

    Raises `visualindex.ann.graph.Abandoned` soon after `wanted` turns false.
    """
    ids, versions = spool.ids(), spool.versions()
    order = _order(ids)
    ids, versions = ids[order], versions[order]
    # Of these rows in their own order: a sample of the whole index depends on how the database happens to read it.
    measured = measured_by(list(spool.attributes(order[:SAMPLE])))
    recipe = chosen(index, len(ids), spool.dimension, measured)
    codes = spool.write_vectors(order, directory / VECTORS)
    attributes = AttributeColumns.build(fields(one) for one in spool.attributes(order))
    ann, recall = None, None
    if recipe.family != FLAT:
        ann, recall = build_and_tune(
            recipe.family, codes, recipe.target_recall, recipe.parameters, wanted=wanted, threads=threads
        )
    write_segment(
        directory, ids=ids, versions=versions, buckets=buckets_of(ids), attributes=attributes, ann=ann
    )
    return SegmentBuilt(len(ids), recipe, recall)


def chosen(index: IndexSpec, rows: int, dimension: int, measured: Coefficients = DEFAULTS) -> Recipe:
    """The recipe of a segment of so many rows. Raises ProblemError STORAGE_FULL when none fits `memoryPerShard`."""
    family = choose_family(index, rows, dimension, measured)
    return Recipe(family, index.target_recall, Parameters(hnsw=index.hnsw))


def _order(ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    """By id, which no way of reading them changes, with those that tuning asks with last."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    by_id = np.lexsort((words[:, 1], words[:, 0]))
    order: NDArray[np.int64] = by_id[held_out_last(ids[by_id])]
    return order
