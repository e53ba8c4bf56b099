"""Whether an index fits the memory of its shards, and the remedies when it does not."""

from typing import Any

import pytest

from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.fitting import fewest_shards, fit, misfit
from visualindex.capacity.formulas import rows_of_largest
from visualindex.identity import buckets_of_shard
from visualindex.spec.models import Spec

GIB = 1024**3
MANY = 200_000_000


def spec(shards: int = 1, dimension: int = 512, **index: Any) -> Spec:
    document = {"encoder": {"dimension": dimension}, "index": {"shards": shards, **index}}
    return Spec.model_validate(document)


@pytest.mark.parametrize("shards", [1, 3, 7, 108, 600, 1024])
def test_the_largest_shard_has_the_most_buckets(shards: int) -> None:
    most = max(len(buckets_of_shard(shard, shards)) for shard in range(shards))
    assert rows_of_largest(1024 * 1000, shards) == most * 1000


@pytest.mark.parametrize("family", ["auto", "hnsw", "ivf-pq", "rabitq"])
def test_the_fewest_shards_fit_and_fewer_do_not(family: str) -> None:
    wanted = spec(family=family, memory_per_shard=16 * GIB)
    fewest = fewest_shards(wanted, MANY, DEFAULTS)
    assert fewest is not None
    assert fewest > 1
    for shards, fits in ((fewest, True), (fewest - 1, False)):
        assert fit(spec(shards, family=family, memory_per_shard=16 * GIB), MANY, DEFAULTS).fits is fits


def test_a_misfit_names_bytes_shards_and_another_family_and_each_of_these_helps() -> None:
    wanted = spec(family="hnsw", memory_per_shard=16 * GIB)
    told = misfit(wanted, MANY, DEFAULTS)
    assert told is not None
    shards = fewest_shards(wanted, MANY, DEFAULTS)
    fewer = fewest_shards(wanted, MANY, DEFAULTS, "rabitq")
    needed = fit(wanted, MANY, DEFAULTS).needed
    assert told.startswith(
        f"index.shards: 1 would need {needed / GIB:.3g} GiB per shard as hnsw, memoryPerShard is 16 GiB: "
    )
    assert f"{shards} shards, or family rabitq with {fewer}, or memoryPerShard" in told
    assert misfit(spec(shards or 0, family="hnsw", memory_per_shard=16 * GIB), MANY, DEFAULTS) is None
    assert misfit(spec(fewer or 0, family="rabitq", memory_per_shard=16 * GIB), MANY, DEFAULTS) is None
    assert misfit(spec(family="hnsw", memory_per_shard=needed), MANY, DEFAULTS) is None


@pytest.mark.parametrize("images", [1_000_000, 5_000_000, 20_000_000, 60_000_000])
def test_auto_never_takes_a_family_that_overfills_the_shard_where_another_fits(images: int) -> None:
    for shards in range(1, 30):
        about = spec(shards, dimension=256, memory_per_shard=2 * GIB)
        others = [spec(shards, 256, family=name, memory_per_shard=2 * GIB) for name in ("ivf-pq", "rabitq")]
        assert fit(about, images, DEFAULTS).fits or not any(fit(o, images, DEFAULTS).fits for o in others)
        assert fit(about, images, DEFAULTS).fits is (fit(about, images, DEFAULTS).needed <= 2 * GIB)


def test_what_fits_no_number_of_shards_is_told_the_memory() -> None:
    told = misfit(spec(memory_per_shard=1024**2), MANY, DEFAULTS)
    assert told is not None
    assert " shards" not in told.split(": ")[-1]
    assert "memoryPerShard" in told
