"""Whether one picture shows the very scene of another: local features that agree on a single change of viewpoint.

ORB features (Rublee et al., 2011), the ratio test (Lowe, 2004), and a homography by RANSAC (Fischler & Bolles, 1981).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

LEAST_INLIERS = 12
"""Agreeing matches below which two pictures may agree by chance."""

_FEATURES = 500
_SIDE = 320
_RATIO = 0.8
_REPROJECTION_PIXELS = 5.0
_LEAST_DETERMINANT, _MOST_DETERMINANT = 0.02, 50.0
"""Change of area by the homography's linear part: beyond it features collapse onto a point or a line."""


@dataclass(frozen=True)
class Keypoints:
    """ORB features of a picture: `places` float32[n, 2] in pixels, `descriptors` uint8[n, 32]."""

    places: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]


def keypoints(pixels: Pixels) -> Keypoints:
    """The features of uint8[height, width, 3] RGB, found at a longer side of 320 pixels; a plain picture has none."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    scale = _SIDE / max(grey.shape)
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    found, descriptors = cv2.ORB.create(nfeatures=_FEATURES, fastThreshold=10).detectAndCompute(grey, None)
    if descriptors is None or not len(found):
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8))
    return Keypoints(np.array([point.pt for point in found], np.float32), descriptors.astype(np.uint8))


def inliers(query: Keypoints, candidate: Keypoints) -> int:
    """How many features of the query lie in the candidate where one homography puts them: 0 where none is plausible."""
    if min(len(query.places), len(candidate.places)) < 2:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(query.descriptors, candidate.descriptors, k=2)
    matches = [best for best, *others in pairs if others and best.distance < _RATIO * others[0].distance]
    if len(matches) < LEAST_INLIERS:
        return 0
    ours = query.places[[match.queryIdx for match in matches]]
    theirs = candidate.places[[match.trainIdx for match in matches]]
    cv2.setRNGSeed(
        0
    )  # RANSAC draws from a generator of the process: the same pictures must give the same answer
    homography, mask = cv2.findHomography(ours, theirs, cv2.RANSAC, _REPROJECTION_PIXELS)
    if homography is None or not _plausible(homography):
        return 0
    # Several features of the query on one feature of the candidate are one agreement, not several.
    return len({match.trainIdx for match, agrees in zip(matches, mask.ravel(), strict=True) if agrees})


def _plausible(homography: npt.NDArray[Any]) -> bool:
    determinant = abs(float(np.linalg.det(homography[:2, :2])))
    return _LEAST_DETERMINANT < determinant < _MOST_DETERMINANT


def verified_first(counts: Sequence[int]) -> list[int]:
    """The order of candidates that puts the verified ones first, most inliers first; the others keep theirs.

    `counts` are the inliers of each candidate in its order so far.
    """
    verified = [place for place, count in enumerate(counts) if count >= LEAST_INLIERS]
    verified.sort(key=lambda place: -counts[place])
    return [*verified, *(place for place, count in enumerate(counts) if count < LEAST_INLIERS)]
