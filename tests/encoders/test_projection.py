"""Projections shorten vectors and keep neighbours where they were."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import (
    Encoder,
    EncoderConfigError,
    Projection,
    fit_projection,
    load_encoder,
    load_projection,
)
from visualindex.encoders.base import l2_normalise
from visualindex.encoders.projection import fit_vectors, load_shipped_projection
from visualindex.spec.models import EncoderSpec

Draw = Callable[..., npt.NDArray[np.uint8]]


def _vectors(count: int, width: int, rank: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Unit vectors near a plane of `rank` dimensions."""
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, width)) * 10
    return l2_normalise((flat + 0.01 * rng.normal(size=(count, width))).astype(np.float32))


def test_agrees_with_a_singular_value_decomposition() -> None:
    """The one-pass fit finds what a decomposition of all centred vectors at once finds."""
    vectors = _vectors(400, 48, 6)
    projection = fit_vectors("f", np.array_split(vectors, 7), rows=6)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(np.sum(projection.components * rows[:6], axis=1)).min() > 0.9999
    assert np.allclose(projection.explained, (singular**2 / np.sum(singular**2))[:6], rtol=1e-4)
    assert np.allclose(projection.mean, vectors.mean(axis=0), atol=1e-6)


def test_does_not_depend_on_batches_or_runs() -> None:
    """The same vectors in other batches give the same signs and nearly the same numbers."""
    vectors = _vectors(300, 32, 5)
    one, many = (fit_vectors("f", np.array_split(vectors, n), rows=5) for n in (1, 60))
    assert np.allclose(one.components, many.components, atol=1e-4)
    again = fit_vectors("f", np.array_split(vectors, 60), rows=5)
    assert again.digest == many.digest


def test_orders_rows_by_variance() -> None:
    """Truncating keeps the most telling rows."""
    projection = fit_vectors("f", [_vectors(400, 32, 8)], rows=20)
    assert np.all(np.diff(projection.explained) <= 0)
    assert np.array_equal(projection.truncated(4).components, projection.components[:4])


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    """Half precision on disk moves projected cosines by less than a thousandth, and loads the same every time."""
    vectors = _vectors(400, 64, 12)
    projection = fit_vectors("abc", [vectors], rows=12)
    projection.save(tmp_path / "p.npz")
    loaded = load_projection(tmp_path / "p.npz")
    assert loaded.encoder == "abc"
    assert loaded.digest == load_projection(tmp_path / "p.npz").digest
    assert np.sum(loaded.apply(vectors) * projection.apply(vectors), axis=1).min() > 0.999


def test_gives_unit_vectors() -> None:
    """Projected vectors are normalised again, in single precision."""
    vectors = _vectors(50, 16, 4)
    out = fit_vectors("f", [vectors], rows=4).apply(vectors)
    assert out.dtype == np.float32
    assert np.allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)


def test_wants_more_images_than_components() -> None:
    """A fit that could only memorise is refused."""
    with pytest.raises(EncoderConfigError, match="20 images cannot fix 20 components"):
        fit_vectors("f", [_vectors(20, 32, 4)], rows=20)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_refuses_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    """Another file in its place is refused by name."""
    path = tmp_path / "wrong.npz"
    path.write_bytes(content)
    with pytest.raises(EncoderConfigError, match=r"wrong\.npz is not a projection"):
        load_projection(path)


def test_refuses_arrays_of_other_names(tmp_path: Path) -> None:
    """Some other .npz file is no projection."""
    np.savez(tmp_path / "wrong.npz", weights=np.zeros(3))
    with pytest.raises(EncoderConfigError, match="not a projection"):
        load_projection(tmp_path / "wrong.npz")


def test_fits_pictures_and_serves_the_fit(
    unprojected: Encoder, cache_dir: Path, tmp_path: Path, draw: Draw
) -> None:
    """A fit on own pictures, saved and named in the spec, serves vectors of the wanted dimension."""
    projection = fit_projection(unprojected, iter(draw(40, seed=3)), rows=16)
    path = tmp_path / "own.npz"
    projection.save(path)
    spec = EncoderSpec(dimension=8, projection=str(path))
    images = draw(5)
    served = load_encoder(spec, cache_dir=cache_dir).encode(images).vectors
    direct = projection.truncated(8).apply(unprojected.encode(images).vectors)
    assert served.shape == (5, 8)
    assert np.sum(served * direct, axis=1).min() > 0.999


def test_the_shipped_projection_keeps_neighbours(lite0: Encoder, unprojected: Encoder, draw: Draw) -> None:
    """A picture's altered copy is its nearest neighbour at 256 dimensions as it is at 1,280."""
    originals = draw(40, seed=5)
    copies = np.clip(originals[:, :, ::-1].astype(np.int16) + 12, 0, 255).astype(np.uint8)
    for encoder in (unprojected, lite0):
        scores = encoder.encode(copies).vectors @ encoder.encode(originals).vectors.T
        assert np.mean(scores.argmax(axis=1) == np.arange(40)) > 0.9


def test_the_shipped_projection_is_orthonormal() -> None:
    """What ships is a projection of 512 rows over 1,280 features."""
    shipped: Projection = load_shipped_projection("efficientnet-lite0.npz")
    assert shipped.components.shape == (512, 1280)
    assert np.abs(shipped.components @ shipped.components.T - np.eye(512)).max() < 2e-3
