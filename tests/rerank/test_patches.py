"""Patches shrink to 12.5 KB a picture and still say what they said."""

from pathlib import Path

import numpy as np
import pytest

from visualindex.encoders import Encoder
from visualindex.errors import ProblemError
from visualindex.rerank.patches import (
    PatchProjection,
    fit_patches,
    load_patch_projection,
    packed_row,
    shipped_projection,
)

from .conftest import Draw


def test_packed_patches_are_the_unit_vectors_they_came_from(
    lite0: Encoder, projection: PatchProjection, draw: Draw
) -> None:
    patches = lite0.encode(draw(3), patches=True).patches
    assert patches is not None
    packed = projection.pack(patches)
    assert packed.codes.shape == (3, 196, 64)
    exact = (patches.reshape(-1, 112).astype(np.float32) - projection.mean) @ projection.components.T
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    unpacked = (packed.codes * packed.scales.astype(np.float32)[:, None, None]).reshape(-1, 64)
    lengths = np.linalg.norm(unpacked, axis=1)
    assert np.abs(lengths - 1).max() < 0.02
    assert (np.sum(exact * unpacked, axis=1) / lengths).min() > 0.999


def test_a_picture_takes_twelve_and_a_half_kilobytes_and_reads_back(
    lite0: Encoder, projection: PatchProjection, draw: Draw
) -> None:
    packed = projection.pack(lite0.encode(draw(2), patches=True).patches)  # type: ignore[arg-type]
    row = packed.row_bytes(1)
    assert len(row) == 196 * 64 + 2
    again = packed_row(row)
    assert np.array_equal(again.codes[0], packed.codes[1])
    assert again.scales[0] == packed.scales[1]


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x3c", b"\x00\x3c" + bytes(63), bytes(66), b"\x00\x7e" + bytes(64)]
)
def test_bytes_that_are_no_patches_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="packed patches"):
        packed_row(data)


def test_a_picture_without_any_structure_packs_to_finite_numbers() -> None:
    projection = PatchProjection("f", np.zeros(8, np.float32), np.eye(4, 8, dtype=np.float32))
    packed = projection.pack(np.zeros((1, 2, 2, 8), np.float16))
    assert not packed.codes.any()
    assert packed_row(packed.row_bytes(0), 4).scales[0] > 0


def test_the_fit_agrees_with_a_decomposition_and_repeats() -> None:
    rng = np.random.default_rng(0)
    patches = (rng.normal(size=(40, 3, 3, 6)) @ rng.normal(size=(6, 24)) * 3).astype(np.float16)
    one, many = (fit_patches("f", np.array_split(patches, parts), width=6) for parts in (1, 9))
    assert np.allclose(one.components, many.components, atol=1e-4)
    flat = patches.reshape(-1, 24).astype(np.float64)
    _, _, rows = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    assert np.abs(np.sum(one.components * rows[:6], axis=1)).min() > 0.999


def test_too_few_patches_and_encoders_without_any_are_refused() -> None:
    with pytest.raises(ProblemError, match="9 patches cannot fix 64 components"):
        fit_patches("f", [np.zeros((1, 3, 3, 70), np.float16)])
    with pytest.raises(ProblemError, match="gives no patches"):
        fit_patches("f", [None])


def test_a_file_gives_back_what_was_saved(tmp_path: Path, projection: PatchProjection) -> None:
    projection.save(tmp_path / "patches.npz")
    again = load_patch_projection(tmp_path / "patches.npz")
    assert again.fingerprint == projection.fingerprint


def test_a_file_that_is_no_projection_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    with pytest.raises(ProblemError, match=r"other\.npz is not a projection of patches.*fit-patches"):
        load_patch_projection(tmp_path / "other.npz")


def test_another_encoder_has_no_shipped_projection_and_other_channels_are_refused(
    projection: PatchProjection,
) -> None:
    assert shipped_projection("0" * 16) is None
    with pytest.raises(ValueError, match="8 channels, but this projection takes 112"):
        projection.pack(np.zeros((1, 2, 2, 8), np.float16))
