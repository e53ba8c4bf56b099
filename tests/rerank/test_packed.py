"""Patches beside a segment: row by row what was written, and named when damaged."""

from pathlib import Path

import numpy as np
import pytest

from visualindex.errors import ProblemError
from visualindex.rerank.packed import CODES_FILE, SCALES_FILE, PackedPatches, write_packed
from visualindex.rerank.patches import Packed


def _rows(n: int) -> Packed:
    rng = np.random.default_rng(0)
    return Packed(rng.integers(-127, 128, (n, 6, 64), np.int8), rng.uniform(0.001, 0.1, n).astype(np.float16))


def test_any_rows_in_any_order_read_back(tmp_path: Path) -> None:
    rows = _rows(50)
    assert write_packed(tmp_path, (rows.row_bytes(n) for n in range(50))) == 50
    opened = PackedPatches.open(tmp_path, 50)
    assert opened is not None
    wanted = np.array([49, 0, 7, 7])
    found = opened.of(wanted)
    assert np.array_equal(found.codes, rows.codes[wanted])
    assert np.array_equal(found.scales, rows.scales[wanted])
    assert opened.row_bytes == 6 * 64 + 2


def test_a_row_without_patches_says_so_by_its_scale(tmp_path: Path) -> None:
    rows = _rows(3)
    write_packed(tmp_path, [rows.row_bytes(0), None, rows.row_bytes(2)])
    opened = PackedPatches.open(tmp_path, 3)
    assert opened is not None
    assert list(opened.of(np.arange(3)).scales > 0) == [True, False, True]
    assert np.array_equal(opened.of(np.array([2])).codes[0], rows.codes[2])


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        rows = _rows(4)
        write_packed(tmp_path / name, (rows.row_bytes(n) for n in range(4)))
    for file in (CODES_FILE, SCALES_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("rows", [[], [None] * 5])
def test_where_no_row_has_patches_there_are_no_files(tmp_path: Path, rows: list[None]) -> None:
    assert write_packed(tmp_path, rows) == 0
    assert list(tmp_path.iterdir()) == []
    assert PackedPatches.open(tmp_path, len(rows)) is None


@pytest.mark.parametrize("place", [0, 3, 6])
def test_rows_without_patches_may_stand_anywhere(tmp_path: Path, place: int) -> None:
    rows = [_rows(1).row_bytes(0) if n == place else None for n in range(7)]
    assert write_packed(tmp_path, rows) == 1
    opened = PackedPatches.open(tmp_path, 7)
    assert opened is not None
    assert list(np.flatnonzero(opened.scales)) == [place]
    assert opened.of(np.array([place])).row_bytes(0) == rows[place]


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        (CODES_FILE, b"x", r"patches\.i8 has 769 bytes"),
        (SCALES_FILE, b"xx", r"patches\.scale has 6 bytes"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, change: bytes, named: str) -> None:
    rows = _rows(2)
    write_packed(tmp_path, (rows.row_bytes(n) for n in range(2)))
    with (tmp_path / file).open("ab") as opened:
        opened.write(change)
    with pytest.raises(ProblemError, match=named):
        PackedPatches.open(tmp_path, 2)


@pytest.mark.parametrize("missing", [CODES_FILE, SCALES_FILE])
def test_a_missing_half_is_named(tmp_path: Path, missing: str) -> None:
    write_packed(tmp_path, (_rows(2).row_bytes(n) for n in range(2)))
    (tmp_path / missing).unlink()
    with pytest.raises(ProblemError, match=f"{missing} is missing"):
        PackedPatches.open(tmp_path, 2)


def test_a_row_of_another_grid_is_refused(tmp_path: Path) -> None:
    other = Packed(np.ones((1, 5, 64), np.int8), np.ones(1, np.float16)).row_bytes(0)
    with pytest.raises(ValueError, match="row 1 has 320 bytes of patches, those before it 384"):
        write_packed(tmp_path, [_rows(1).row_bytes(0), other])
