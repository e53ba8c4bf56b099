"""`visualindex plan`: figures for people and programs, and an exit code that says whether it fits."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from visualindex.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def figures(name: str, images: str, *arguments: str) -> dict[str, Any]:
    result = plan("-f", str(EXAMPLES / name), "--images", images, "--json", *arguments)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_what_fits_is_told_with_what_it_rests_on() -> None:
    result = plan("-f", str(EXAMPLES / "furniture.yaml"), "--images", "1M")
    assert result.exit_code == 0, result.output
    for word in ("1M of 256 dimensions", "RAM", "disk", "originals", "postgres", "Kubernetes", "Assumed"):
        assert word in result.stdout


def test_what_does_not_fit_is_told_with_what_would() -> None:
    result = plan("-f", str(EXAMPLES / "furniture.yaml"), "--images", "200M")
    assert result.exit_code == 1
    assert "furniture does not fit: index.shards: 1 would need" in result.stderr
    assert "memoryPerShard is 2 GiB: " in result.stderr
    assert "furniture does not fit: ray.cache.size: 10 GiB" in result.stderr


def test_every_index_of_a_file_is_planned() -> None:
    found = figures("two-indexes.yaml", "10k")
    assert [(one["name"], one["fits"]) for one in found["indexes"]] == [("furniture", True), ("stamps", True)]
    assert [one["indexes"] for one in found["pods"]] == [["furniture"], ["stamps"]]
    assert found["load"]["images"] == 10_000


def test_originals_thumbnails_and_coefficients_can_be_given(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"gpu_images_per_s": 500}')
    found = figures(
        "open-clip-gpu.yaml",
        "1M",
        "--original-bytes",
        "1000",
        "--thumbnails",
        "0",
        "--coefficients",
        str(own),
    )
    index = found["indexes"][0]
    assert (index["originals"], index["thumbnails"], index["encoder_gpu_s"]) == (1_000_000_000, 0, 2000)
    assert found["coefficients"]["gpu_images_per_s"] == 500


@pytest.mark.parametrize(("images", "code"), [("10x", 2), ("0", 2)])
def test_a_wrong_number_is_a_wrong_use(images: str, code: int) -> None:
    result = plan("-f", str(EXAMPLES / "furniture.yaml"), "--images", images)
    assert result.exit_code == code
    assert "images" in result.stderr


def test_a_wrong_spec_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "apiVersion: visualindex.dev/v1alpha1\nkind: VisualIndex\nmetadata: {name: a}\nspec: {indx: {}}\n"
    )
    result = plan("-f", str(path), "--images", "1M")
    assert result.exit_code == 1
    assert "indx" in result.stderr
