"""Files of arrays, mapped, and the one problem of a file of a generation that is not what it must be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visualindex.errors import ProblemError, ProblemType


def mapped(path: Path, dtype: np.dtype[Any], shape: Sequence[int] = (), rows: int | None = None) -> Any:
    """The file as an array [rows, *shape], mapped, read-only. An empty file cannot be mapped and needs not.

    Raises `ProblemError(INTERNAL)` naming a file that is missing, or whose size does not fit.
    """
    item = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    if size % item or (rows is not None and size != rows * item):
        expected = f"a multiple of {item}" if rows is None else str(rows * item)
        raise damaged(path, f"it has {size} bytes instead of {expected}")
    if not size:
        return np.zeros((0, *shape), dtype)
    # Plain arrays over the map: numpy's own class of mapped arrays takes tens of microseconds to index.
    return np.asarray(np.memmap(path, dtype, "r", shape=(size // item, *shape)))


def damaged(path: Path | str, why: str) -> ProblemError:
    """The problem of a file of a generation that cannot be used."""
    detail = f"{path} cannot be used: {why}; remove it, and it is fetched again from the object store"
    return ProblemError(ProblemType.INTERNAL, detail)
