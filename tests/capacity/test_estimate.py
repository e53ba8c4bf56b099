"""A plan as a whole: its sums, what grows with what, and what it refuses."""

import json
from pathlib import Path

import pytest

from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.capacity.estimate import capacity
from visualindex.capacity.formulas import Load
from visualindex.capacity.sizes import FAMILIES
from visualindex.capacity.telling import figures, status_lines
from visualindex.errors import ProblemError
from visualindex.footprint import PATCH_ROW_BYTES
from visualindex.spec.models import Spec


def spec(**fields: object) -> Spec:
    return Spec.model_validate(fields)


def test_objects_are_originals_thumbnails_and_every_kept_generation() -> None:
    found = capacity(spec(index={"keep_generations": 3}), Load(1_000_000, original_bytes=200_000))
    assert found.originals == 200_000_000_000
    assert found.generation.vectors == 2 * 256 * 1_000_000
    assert found.objects == found.originals + found.thumbnails + 3 * found.generation.total


def test_patches_are_counted_where_they_are_kept() -> None:
    without, with_them = (
        capacity(spec(rerank={"mode": mode}), Load(1_000_000)) for mode in ("never", "auto")
    )
    assert without.generation.patches == 0
    assert with_them.generation.patches == PATCH_ROW_BYTES * 1_000_000
    assert with_them.postgres - without.postgres > PATCH_ROW_BYTES * 1_000_000


def test_every_generation_that_is_kept_takes_memory() -> None:
    two, many = (capacity(spec(index={"keep_generations": kept}), Load(1_000_000)) for kept in (2, 32))
    assert many.memory - two.memory == 30 * spec().index.memory_per_shard // 4 * two.shard_replicas


def test_a_gpu_takes_the_encoding_off_the_cpus() -> None:
    torch = {"family": "timm", "model": "resnet50", "checkpoint": "hub:a1_in1k", "dimension": 512}
    on_cpu = capacity(spec(encoder=torch), Load(1_000_000))
    on_gpu = capacity(spec(encoder={**torch, "num_gpus": 1}), Load(1_000_000))
    assert on_cpu.encoder_gpu_s == 0
    assert on_gpu.encoder_gpu_s == 1_000_000 / DEFAULTS.gpu_images_per_s
    assert on_gpu.encoder_cpu_s < on_cpu.encoder_cpu_s


def test_a_cache_that_holds_no_generation_is_told() -> None:
    found = capacity(spec(index={"memory_per_shard": "64Gi"}), Load(20_000_000))
    assert len(found.problems) == 1
    assert found.problems[0].startswith("ray.cache.size: 10 GiB would have to hold")
    wanted = found.problems[0].split("set it to ")[1].split(",")[0]
    assert not capacity(
        spec(index={"memory_per_shard": "64Gi"}, ray={"cache": {"size": wanted}}), Load(20_000_000)
    ).problems


def test_the_status_has_a_line_a_figure_and_one_for_each_misfit() -> None:
    lines = status_lines(capacity(spec(), Load(200_000_000)))
    assert [line.split(": ")[0] for line in lines[:4]] == ["images", "shards", "a shard", "RAM"]
    assert sum(line.startswith("does not fit: ") for line in lines) == 2


def test_every_family_has_a_measured_cost() -> None:
    assert set(DEFAULTS.build) == set(FAMILIES)


def test_other_coefficients_replace_those_they_name(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"gpu_images_per_s": 4000, "build": {"ivf-pq": {"fixed": 1, "growing": 0}}}))
    own = Coefficients.read(path)
    assert own.gpu_images_per_s == 4000
    assert own.build["ivf-pq"].fixed == 1
    assert own.build["flat"] == DEFAULTS.build["flat"]
    assert own.change_bytes == DEFAULTS.change_bytes


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[]", "no JSON object"),
        ('{"gpu_image_per_s": 3}', "unknown coefficient gpu_image_per_s"),
        ('{"change_bytes": -1}', "change_bytes is -1"),
        ('{"build": {"lsh": {"fixed": 1, "growing": 0}}}', "unknown family lsh"),
        ('{"build": {"flat": {"fixed": "x", "growing": 0}}}', "build.flat.fixed"),
        ("{", "cannot be used"),
    ],
)
def test_wrong_coefficients_are_refused_with_their_name(text: str, mistake: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(ProblemError, match=mistake):
        Coefficients.read(path)


def test_every_figure_of_a_plan_is_told() -> None:
    told = dict(figures(capacity(spec(), Load(1_000_000))))
    assert "1M of 256 dimensions" in told["images"]
    assert "connections" in told["postgres"]
    assert "on one thread" in told["build"]
