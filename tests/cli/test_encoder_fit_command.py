"""`visualindex encoder fit` and `fit-patches` write projections that the encoder then uses, and say what they left out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visualindex.cli import app
from visualindex.encoders import load_encoder
from visualindex.errors import ProblemError
from visualindex.rerank.patches import load_patch_projection
from visualindex.spec import EncoderSpec


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures of noise and one broken file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(7)
    for number in range(12):
        noise = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((96, 96)).save(folder / f"{number:02d}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose cache is the tests' own."""
    return {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def test_a_fitted_projection_serves_the_encoder(
    pictures: Path, cache: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "own.npz"
    result = CliRunner().invoke(
        app, ["encoder", "fit", str(pictures), "-o", str(output), "--rows", "8"], env=cache
    )
    assert result.exit_code == 0, result.output
    assert "fitted on 12 pictures, 1 skipped" in result.stdout
    encoder = load_encoder(EncoderSpec(dimension=8, projection=str(output)), cache_dir=tmp_path / "cache")
    vectors = encoder.encode(np.zeros((1, encoder.input.height, encoder.input.width, 3), np.uint8)).vectors
    assert vectors.shape == (1, 8)


def test_too_few_pictures_are_refused_with_the_reason(
    pictures: Path, cache: dict[str, str], tmp_path: Path
) -> None:
    arguments = ["encoder", "fit", str(pictures), "-o", str(tmp_path / "x.npz"), "--rows", "64"]
    result = CliRunner().invoke(app, arguments, env=cache)
    assert isinstance(result.exception, ProblemError)
    assert "fit on more images" in result.exception.detail
    assert not (tmp_path / "x.npz").exists()


def test_fitted_patches_pack_what_the_encoder_gives(
    pictures: Path, cache: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "patches.npz"
    result = CliRunner().invoke(app, ["encoder", "fit-patches", str(pictures), "-o", str(output)], env=cache)
    assert result.exit_code == 0, result.output
    assert "fitted on 12 pictures, 1 skipped" in result.stdout
    projection = load_patch_projection(output)
    encoder = load_encoder(EncoderSpec(), cache_dir=tmp_path / "cache")
    assert projection.encoder == encoder.backbone
    picture = np.zeros((1, encoder.input.height, encoder.input.width, 3), np.uint8)
    assert projection.pack(encoder.encode(picture, patches=True).patches).codes.shape == (1, 196, 64)
