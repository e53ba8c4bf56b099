"""Geometric verification tells copies from look-alikes."""

import numpy as np
import pytest

from visualindex.rerank.augmentations import AUGMENTATIONS
from visualindex.rerank.geometry import LEAST_INLIERS, inliers, keypoints, verified_first

from .conftest import Draw


@pytest.mark.parametrize("name", ["crop", "rotation", "colour", "JPEG", "quarter turn", "border"])
def test_a_changed_copy_is_verified(draw: Draw, name: str) -> None:
    verified = 0
    for number, picture in enumerate(draw(10, 320)):
        copy = AUGMENTATIONS[name](picture, np.random.default_rng(number))
        verified += inliers(keypoints(copy), keypoints(picture)) >= LEAST_INLIERS
    assert verified >= 8


def test_other_pictures_are_not(draw: Draw) -> None:
    found = [keypoints(picture) for picture in draw(12, 320)]
    wrong = [inliers(a, b) for n, a in enumerate(found) for b in found[:n]]
    assert max(wrong) < LEAST_INLIERS


def test_a_picture_without_features_agrees_with_nothing(draw: Draw) -> None:
    plain = keypoints(np.full((64, 80, 3), 200, np.uint8))
    assert inliers(plain, plain) == 0
    assert inliers(keypoints(draw(1, 320)[0]), plain) == 0


def test_the_same_pictures_give_the_same_count(draw: Draw) -> None:
    picture = draw(1, 320)[0]
    copy = AUGMENTATIONS["combined"](picture, np.random.default_rng(0))
    assert len({inliers(keypoints(copy), keypoints(picture)) for _ in range(5)}) == 1


def test_the_verified_come_first_and_the_rest_keep_their_order() -> None:
    assert verified_first([3, 40, 0, 12, 11]) == [1, 3, 0, 2, 4]
    assert verified_first([]) == []
