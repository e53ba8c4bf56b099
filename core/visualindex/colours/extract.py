"""The dominant colours of a picture.

A histogram over the palette's cells, gathered into coarser ones, is reduced to at most five clusters by mode seeking and a
few rounds of k-means; no random start, so that the same picture always has the same colours. A plain background, which
product shots have, is found at the border and counts for little, or every catalogue would be white.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from visualindex.colours.background import BACKGROUND_SHARE, background
from visualindex.colours.distance import Float32, UInt8, to_rgb
from visualindex.colours.packing import MOST_COLOURS, Colour
from visualindex.colours.palette import cells_of, lab_of_cells, snapped

EDGE: Final = 96
"""Longest edge in pixels to which pictures are reduced before."""

_GRID = 6.0  # ΔE between the coarser cells
_RADIUS = 13.0  # ΔE within which cells speak for one mode
_APART = 11.0  # ΔE below which two clusters are one colour to the eye
_REACH = 26.0  # ΔE beyond which a cell belongs to none
_SEEDS = 8
_ROUNDS = 4
_LEAST_SHARE = 0.03
_ROUNDING = 1e-6  # shares that sum to 1 are rounded down, so that they sum to at most 255

Weights = npt.NDArray[np.float64]


def dominant_colours(pixels: UInt8) -> tuple[Colour, ...]:
    """At most five colours of sRGB uint8 [h, w, 3], largest share first; none of an empty picture.

    Give it a picture of at most `EDGE` pixels; a larger one takes longer and has the same colours.
    """
    if not pixels.size:
        return ()
    cells = cells_of(pixels)
    places, weights = _coarse(cells, _pixel_weights(cells))
    centres = _merged(*_refined(places, weights, _seeds(places, weights)))
    shares = _shares(places, weights, centres)
    return _colours(centres, shares)


def _pixel_weights(cells: npt.NDArray[np.uint16]) -> Weights:
    """float64 [h, w], summing to 1: the background's pixels count so little that it has at most `BACKGROUND_SHARE`."""
    behind = background(cells)
    weights = np.ones(cells.shape)
    back = int(np.count_nonzero(behind))
    front = cells.size - back
    # Of a picture that is nearly all background, such as a sheet of paper, the background is what it shows.
    if front > cells.size * 0.01:
        weights[behind] = min(1.0, BACKGROUND_SHARE / (1 - BACKGROUND_SHARE) * front / max(back, 1))
    weights /= weights.sum()
    return weights


def _coarse(cells: npt.NDArray[np.uint16], weights: Weights) -> tuple[Float32, Weights]:
    """Occupied cells of a grid of `_GRID`: their means float32 [k, 3] and weights float64 [k]."""
    by_cell = _sums(cells.ravel(), weights.ravel())
    used = np.flatnonzero(by_cell != 0)
    lab, counts = lab_of_cells()[used], by_cell[used]
    steps = np.floor(lab / _GRID).astype(np.int64) + 64
    _, group = np.unique(steps[:, 0] << 16 | steps[:, 1] << 8 | steps[:, 2], return_inverse=True)
    sums = _sums(group, counts)
    means = np.stack([_sums(group, counts * lab[:, axis]) / sums for axis in range(3)], -1)
    return means.astype(np.float32), sums


def _sums(group: npt.NDArray[np.integer], weights: npt.NDArray[np.floating], groups: int = 0) -> Weights:
    """The weights added up by group, float64 [groups or as many as occur]."""
    return np.bincount(group, weights, groups).astype(np.float64, copy=False)


def _distances(first: Float32, second: Float32) -> Float32:
    """ΔE of each of [n, 3] to each of [m, 3], float32 [n, m]."""
    squares = (first * first).sum(-1)[:, None] + (second * second).sum(-1) - 2 * (first @ second.T)
    distances: Float32 = np.sqrt(np.maximum(squares, 0))
    return distances


def _seeds(places: Float32, weights: Weights) -> Float32:
    """The densest places, each further than `_RADIUS` from those before it."""
    distances = _distances(places, places)
    density = np.maximum(0, 1 - distances / _RADIUS) @ weights
    chosen: list[int] = []
    while len(chosen) < _SEEDS and density.any():
        best = int(density.argmax())
        chosen.append(best)
        density[distances[best] < _RADIUS] = 0
    return places[chosen]


def _refined(places: Float32, weights: Weights, centres: Float32) -> tuple[Float32, Weights]:
    """k-means over the places (S. Lloyd, 1982), each place counting for the centre in reach: centres and weights."""
    sums: Weights = np.zeros(len(centres))
    for _ in range(_ROUNDS):
        owner = _owners(places, centres)
        sums = _sums(owner, weights, len(centres) + 1)[:-1]
        held = np.maximum(sums, 1e-12)
        centres = np.stack(
            [_sums(owner, weights * places[:, axis], len(centres) + 1)[:-1] / held for axis in range(3)],
            -1,
        ).astype(np.float32)
        centres, sums = centres[sums > 0], sums[sums > 0]
    return centres, sums


def _owners(places: Float32, centres: Float32) -> npt.NDArray[np.int64]:
    """The nearest centre of each place, int64 [k]; their number where none is within `_REACH`."""
    distances = _distances(places, centres)
    nearest = distances.argmin(1)
    return np.where(distances[np.arange(len(places)), nearest] <= _REACH, nearest, len(centres))


def _merged(centres: Float32, sums: Weights) -> Float32:
    """The centres, largest first, after the nearest two have become one for as long as they look alike."""
    while len(centres) > 1:
        distances = _distances(centres, centres)
        np.fill_diagonal(distances, np.inf)
        first, second = np.unravel_index(distances.argmin(), distances.shape)
        if distances[first, second] >= _APART:
            break
        total = sums[first] + sums[second]
        centres[first] = (centres[first] * sums[first] + centres[second] * sums[second]) / total
        sums[first] = total
        centres, sums = np.delete(centres, second, 0), np.delete(sums, second)
    return centres[np.argsort(-sums, kind="stable")[:MOST_COLOURS]]


def _shares(places: Float32, weights: Weights, centres: Float32) -> Weights:
    return _sums(_owners(places, centres), weights, len(centres) + 1)[:-1]


def _colours(centres: Float32, shares: Weights) -> tuple[Colour, ...]:
    """Largest first; colours that snap to one cell are one, and small ones are left out."""
    found: dict[tuple[int, int, int], float] = {}
    for (red, green, blue), share in zip(snapped(to_rgb(centres)).tolist(), shares.tolist(), strict=True):
        found[red, green, blue] = found.get((red, green, blue), 0.0) + share
    kept = [(rgb, share) for rgb, share in found.items() if share >= _LEAST_SHARE]
    kept.sort(key=lambda one: (-one[1], one[0]))
    return tuple(Colour(*rgb, int(share * 255 + _ROUNDING)) for rgb, share in kept)
