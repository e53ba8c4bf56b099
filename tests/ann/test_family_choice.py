"""What is built for a spec: the fastest family that fits the memory, or an error that says what would fit."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from benchmarks.vectors import clustered

from visualindex.ann import codes as half
from visualindex.ann.families import (
    Effort,
    Parameters,
    build_and_tune,
    choose_family,
    held_out,
    held_out_last,
    shard_bytes,
)
from visualindex.ann.graph import CHUNK, Abandoned
from visualindex.capacity.choosing import needed_bytes
from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.sizes import FAMILIES
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.models import HnswSpec, IndexSpec

GIB = 1024**3


@pytest.mark.parametrize(
    ("memory", "family"),
    [(3, "hnsw-fp16"), (1.5, "hnsw-sq8"), (1.3, "ivf-sq8"), (1.0, "ivf-pq"), (0.8, "rabitq")],
)
def test_auto_takes_the_first_family_that_fits(memory: float, family: str) -> None:
    index = IndexSpec(memory_per_shard=int(memory * GIB))
    assert choose_family(index, 1_000_000, 512) == family


def test_few_rows_are_scanned_whatever_was_asked_for() -> None:
    assert choose_family(IndexSpec(family="ivf-pq"), 20_000, 512) == "flat"
    assert choose_family(IndexSpec(family="ivf-pq"), 20_001, 512) == "ivf-pq"
    assert choose_family(IndexSpec(family="hnsw"), 20_001, 512) == "hnsw-fp16"
    assert choose_family(IndexSpec(family="flat"), 500_000, 512) == "flat"
    assert choose_family(IndexSpec(flat_below=0), 0, 512) == "flat"


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    index = IndexSpec(family="hnsw", memory_per_shard=GIB, shards=2)
    with pytest.raises(ProblemError) as caught:
        choose_family(index, 1_000_000, 512)
    assert caught.value.type is ProblemType.STORAGE_FULL
    needed = needed_bytes(index, "hnsw-fp16", 1_000_000, 512, DEFAULTS)
    assert needed > shard_bytes(index, "hnsw-fp16", 1_000_000, 512)
    assert f"need {needed} bytes" in caught.value.detail
    assert f"index.memoryPerShard is {GIB}" in caught.value.detail
    assert "raise index.memoryPerShard to 1949Mi, or use 4 shards, or set index.family to ivf-pq" in (
        caught.value.detail
    )


def test_families_do_not_help_where_attributes_fill_the_shard() -> None:
    """Then none is named as a remedy, and the shards that are named suffice."""
    large = dataclasses.replace(DEFAULTS, attribute_bytes=2_000.0)
    with pytest.raises(ProblemError) as caught:
        choose_family(IndexSpec(family="hnsw", memory_per_shard=GIB), 1_000_000, 64, large)
    assert "index.family" not in caught.value.detail
    shards = int(re.findall(r"use (\d+) shards", caught.value.detail)[0])
    divided = IndexSpec(family="hnsw", memory_per_shard=GIB, shards=shards)
    assert choose_family(divided, -(-1_000_000 // shards), 64, large) == "hnsw-fp16"


def test_the_remedies_are_remedies() -> None:
    raised = IndexSpec(family="hnsw", memory_per_shard=1949 * 1024**2)
    assert choose_family(raised, 1_000_000, 512) == "hnsw-fp16"
    assert choose_family(IndexSpec(family="hnsw", memory_per_shard=GIB), 500_000, 512) == "hnsw-fp16"
    with pytest.raises(ProblemError, match="as rabitq"):
        choose_family(IndexSpec(memory_per_shard=64 * 1024**2), 1_000_000, 512)


def test_the_rows_that_ask_depend_on_the_ids_alone() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (3000, 16), np.uint8)
    order = held_out_last(ids, seed=1)
    assert sorted(order.tolist()) == list(range(3000))
    assert held_out(3000) == 300
    other = np.random.default_rng(1).permutation(3000)
    asking = {ids[row].tobytes() for row in order[-300:]}
    assert {ids[other][row].tobytes() for row in held_out_last(ids[other], seed=1)[-300:]} == asking
    assert {ids[row].tobytes() for row in held_out_last(ids, seed=2)[-300:]} != asking
    assert held_out_last(ids[:9]).tolist() == list(range(9))


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_the_least_effort_that_reaches_the_target_is_chosen(family: str) -> None:
    codes = half.encode(clustered(3000, 32, seed=0, clusters=30))
    parameters = Parameters(HnswSpec(m=8, ef_construction=32))
    index, report = build_and_tune(family, codes, 0.9, parameters)
    assert index.rows == 3000
    assert index.effort == report.chosen
    assert report.met
    assert report.recall >= 0.9
    assert report.queries == 300
    recalls = [point.recall for point in report.curve]
    assert recalls == sorted(recalls)
    assert all(point.latency_ms > 0 for point in report.curve)
    at = [point.effort for point in report.curve].index(report.chosen)
    surely = [point.recall - 2 * point.deviation for point in report.curve]
    assert max(surely[:at], default=0) < 0.9 <= surely[at]
    again = build_and_tune(family, codes, 0.9, parameters)[1]
    assert (again.chosen, again.recall) == (report.chosen, report.recall)
    queries = clustered(200, 32, seed=1, clusters=30)
    exact, _ = half.scan(codes, queries, 10, None)
    assert np.mean(index.search(queries, 10, None, report.chosen)[0] >= exact[:, -1:]) >= 0.9


def test_a_target_out_of_reach_gives_the_best_there_is() -> None:
    codes = half.encode(np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32))
    _, report = build_and_tune("hnsw-fp16", codes, 1.0, Parameters(HnswSpec(m=4, ef_construction=8)))
    assert not report.met
    assert report.recall == max(point.recall for point in report.curve) < 1
    assert report.chosen == report.curve[-1].effort


def test_too_few_rows_to_ask_are_searched_as_hard_as_can_be() -> None:
    codes = half.encode(clustered(9, 16, seed=0, clusters=2))
    index, report = build_and_tune("hnsw-fp16", codes, 0.95, Parameters())
    assert (report.queries, report.met, report.curve) == (0, True, ())
    assert index.effort == report.chosen == Effort(ef_search=16)


def test_tuning_ends_soon_after_it_is_not_wanted() -> None:
    """Of many rows the exact searches that recall is measured by take as long as the build."""
    codes = half.encode(clustered(3000, 16, seed=0, clusters=3))
    grown = -(-2700 // CHUNK)
    looks = itertools.count()
    with pytest.raises(Abandoned):
        build_and_tune("hnsw-fp16", codes, 0.9, Parameters(), wanted=lambda: next(looks) < grown + 5)
    assert next(looks) == grown + 6
