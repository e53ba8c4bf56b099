"""What colours cost: finding them in real pictures beside OpenCV's k-means, and filtering a million images by them.

Run `python -m benchmarks.colours FOLDER` with a folder of pictures. Alternatives take turns in one process; times are
those of one thread's processor, which other load of the machine lengthens less than the clock's.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from visualindex.colours import EDGE, dominant_colours
from visualindex.filters import Colour, colours_passing

_ROWS = 1_000_000
_ROUNDS = 5
Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Print the medians of both, and of their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(path for path in arguments.folder.rglob("*.png"))[:: max(1, 820 // arguments.pictures)]
    pictures = [_small(path) for path in paths]
    ours, theirs = _turns(pictures, dominant_colours, _kmeans)
    print(
        f"dominant colours of {len(pictures)} pictures of {EDGE} px, median: ours {np.median(ours):.2f} ms,"
    )
    print(
        f"  OpenCV k-means (5 centres, 10 rounds) {np.median(theirs):.2f} ms, ratio {np.median(ours / theirs):.2f}"
    )
    rows = _rows()
    for leaf in (Colour(name="red", min_share=0.2), Colour(near="#aa3322")):
        took = [_took(partial(colours_passing, leaf, rows)) for _ in range(_ROUNDS)]
        share = colours_passing(leaf, rows).mean()
        print(
            f"{leaf}: {min(took):.1f} ms at best, {np.median(took):.1f} median; passes {share:.1%} of {_ROWS:,}"
        )


def _small(path: Path) -> Pixels:
    picture = Image.open(path).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    flat.thumbnail((EDGE, EDGE))
    return np.asarray(flat)


def _kmeans(pixels: Pixels) -> object:
    points = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    return cv2.kmeans(points, 5, None, (3, 10, 1.0), 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]


def _turns(pictures: list[Pixels], *ways: Callable[[Pixels], object]) -> list[npt.NDArray[np.float64]]:
    """Milliseconds of each way by picture."""
    for way in ways:
        way(pictures[0])
    took = [[_took(partial(way, one)) for way in ways] for one in pictures]
    return [np.array(column) for column in zip(*took, strict=True)]


def _took(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return (time.thread_time() - start) * 1000


def _rows() -> Pixels:
    """Colours of as many images, uint8 [n, 5, 4], three in five with a fifth colour."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (_ROWS, 5, 4), np.uint8)
    rows[..., 3] = random.integers(5, 51, (_ROWS, 5))
    rows[:, 4, 3] *= random.random(_ROWS) < 0.6
    return rows


if __name__ == "__main__":
    main()
