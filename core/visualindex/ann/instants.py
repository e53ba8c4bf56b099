"""Values of attributes as points in time."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Mask
from visualindex.filters import FIRST_INSTANT, LAST_INSTANT, Span, instant

Instants: TypeAlias = NDArray[np.int64]
"""Microseconds since 1970, int64 [values]; `NEVER` for values that are no points in time."""

NEVER = np.iinfo(np.int64).min


def instants_of(values: Iterable[Any]) -> Instants:
    """The instants of values, int64 [values]."""
    found = (instant(value) for value in values)
    return np.fromiter((NEVER if at is None else at for at in found), np.int64)


def instants_of_numbers(numbers: NDArray[np.float64]) -> Instants:
    """The instants of seconds since 1970, float64 [values]: what `instant` says of each."""
    far = 1e12  # seconds: well beyond the year 9999
    found = np.floor(np.where(np.abs(numbers) < far, numbers, far) * 1e6).astype(np.int64)
    return np.where((found >= FIRST_INSTANT) & (found <= LAST_INSTANT), found, NEVER)


def time_places(instants: Instants) -> NDArray[np.int32]:
    """The place of each value's instant among all different ones, int32 [values]; -1 for `NEVER`."""
    different = np.unique(instants[instants != NEVER])
    return np.where(instants == NEVER, -1, np.searchsorted(different, instants)).astype(np.int32)


def within(instants: Instants, spans: Sequence[Span]) -> Mask:
    """Which instants are in one of the spans, bool [values]."""
    found = np.zeros(len(instants), np.bool_)
    for start, stop in spans:
        found |= (instants >= (NEVER + 1 if start is None else start)) & (
            instants < (np.iinfo(np.int64).max if stop is None else stop)
        )
    return found
