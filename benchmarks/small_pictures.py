"""Any number of small pictures of a real collection: each a piece of one of its pictures with a piece of another on it."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.photographs import distinct
from visualindex.collections import fetch_collection

Picture = NDArray[np.uint8]
_LONGEST = 200
_EDGES = 64, 97
_QUALITY = 88


class SmallPictures:
    """Picture number n is the same wherever it is made; no two are the same file."""

    def __init__(self, pictures: Sequence[Picture], names: Sequence[str]) -> None:
        self._pictures = pictures
        self._names = names

    @classmethod
    def of_collection(cls, name: str, folder: Path) -> "SmallPictures":
        """Fetches a collection of `visualindex.collections` into `folder`, once."""
        collection = fetch_collection(name, folder)
        items = sorted(collection.items, key=lambda item: item.key)
        return cls([_read(collection.root / item.path) for item in items], [item.category for item in items])

    def category(self, number: int) -> str:
        """What the larger of its two pictures shows."""
        return self._names[number % len(self._names)]

    def jpeg(self, number: int) -> bytes:
        """64 to 96 pixels wide and high."""
        rng = np.random.default_rng(number)
        height, width = (int(edge) for edge in rng.integers(*_EDGES, 2))
        picture = _piece(self._pictures[number % len(self._pictures)], (width, height), rng)
        other = self._pictures[int(rng.integers(len(self._pictures)))]
        small = _piece(other, (width * 2 // 5, height * 2 // 5), rng)
        top, left = (int(rng.integers(free + 1)) for free in np.subtract(picture.shape[:2], small.shape[:2]))
        picture[top : top + small.shape[0], left : left + small.shape[1]] = small
        gains = rng.uniform(0.7, 1.2, 3).astype(np.float32)
        coloured = np.ascontiguousarray(np.clip(picture * gains, 0, 255).astype(np.uint8))
        return distinct(simplejpeg.encode_jpeg(coloured, quality=_QUALITY), number)


def _read(path: Path) -> Picture:
    """RGB on white, as small as pieces of it need to be."""
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert raw is not None, f"{path} is no picture"
    if raw.ndim == 2:
        raw = cv2.cvtColor(raw, cv2.COLOR_GRAY2BGR)
    if raw.shape[2] == 4:
        opaque = raw[:, :, 3:] / 255.0
        raw = (raw[:, :, :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
    scale = min(1.0, _LONGEST / max(raw.shape[:2]))
    small = cv2.resize(raw, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[:, :, ::-1])


def _piece(picture: Picture, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Between a half and all of each edge, mirrored or not, brought to a size."""
    high, wide = (max(8, int(edge * rng.uniform(0.5, 1.0))) for edge in picture.shape[:2])
    top = int(rng.integers(max(1, picture.shape[0] - high + 1)))
    left = int(rng.integers(max(1, picture.shape[1] - wide + 1)))
    piece = picture[top : top + high, left : left + wide]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return np.asarray(cv2.resize(piece, size, interpolation=cv2.INTER_AREA), np.uint8)
