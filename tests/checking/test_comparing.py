"""Comparing rows: each way in which a replica can differ has a name, and how a processor rounds has none."""

import numpy as np

from visualindex.checking import Difference, FindingKind, Held, compared

A, B = b"a" * 16, b"b" * 16


def unit(*values: float) -> np.typing.NDArray[np.float32]:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def test_equal_sides_do_not_differ() -> None:
    side = {A: Held(1, unit(1, 2)), B: Held(2, unit(3, 1))}
    assert compared((side, dict(side))) == set()


def test_each_difference_has_its_kind() -> None:
    truth = {A: Held(5, unit(1, 2))}
    assert compared((truth, {})) == {Difference(FindingKind.LOST_ROW, A, 5, None)}
    assert compared(({}, truth)) == {Difference(FindingKind.STRAY_VECTOR, A, None, 5)}
    assert compared((truth, {A: Held(4, unit(1, 2))})) == {Difference(FindingKind.STALE_ROW, A, 5, 4)}
    assert compared((truth, {A: Held(5, unit(2, 1))})) == {Difference(FindingKind.DAMAGED_VECTOR, A, 5, 5)}


def test_the_last_bit_of_a_half_precision_number_is_no_difference() -> None:
    vector = unit(*np.random.default_rng(0).normal(size=256)).astype(np.float16)
    rounded = np.nextafter(vector, np.float16(1))
    sides = {A: Held(1, vector.astype(np.float32))}, {A: Held(1, rounded.astype(np.float32))}
    assert compared(sides) == set()
