"""MaxSim finds the same parts wherever they lie."""

import numpy as np
import pytest

from visualindex.encoders import Encoder
from visualindex.rerank.maxsim import maxsim
from visualindex.rerank.patches import Packed, PatchProjection

from .conftest import Draw


def _random(n: int, patches: int = 5, width: int = 8, seed: int = 0) -> Packed:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (n, patches, width), np.int8)
    return Packed(codes, rng.uniform(0.001, 0.01, n).astype(np.float16))


@pytest.mark.parametrize("n", [1, 3, 4, 9])
@pytest.mark.parametrize("both", [False, True])
def test_says_what_the_definition_says(n: int, both: bool) -> None:
    query, candidates = _random(1, patches=3, seed=1), _random(n)
    ours = query.codes[0] * query.scales.astype(np.float64)[0]
    for score, codes, scale in zip(
        maxsim(query, candidates, both=both),
        candidates.codes,
        candidates.scales.astype(np.float64),
        strict=True,
    ):
        cosines = ours @ (codes * scale).T
        forth, back = cosines.max(axis=1).mean(), cosines.max(axis=0).mean()
        assert score == pytest.approx((forth + back) / 2 if both else forth, rel=1e-5)


def test_a_picture_is_most_like_itself_and_its_parts(
    lite0: Encoder, projection: PatchProjection, draw: Draw
) -> None:
    pictures = draw(8)
    packed = projection.pack(lite0.encode(pictures, patches=True).patches)  # type: ignore[arg-type]
    for number in range(8):
        query = Packed(packed.codes[number : number + 1], packed.scales[number : number + 1])
        scores = maxsim(query, packed)
        assert scores.argmax() == number
        assert scores[number] == pytest.approx(1, abs=0.01)
    moved = np.roll(pictures[2], 64, axis=1)
    query = projection.pack(lite0.encode(moved[None], patches=True).patches)  # type: ignore[arg-type]
    assert maxsim(query, packed).argmax() == 2


def test_no_candidates_give_no_scores_and_other_widths_are_refused() -> None:
    assert maxsim(_random(1), _random(0)).shape == (0,)
    with pytest.raises(ValueError, match="width 4, the candidates' 8"):
        maxsim(_random(1, width=4), _random(2))
