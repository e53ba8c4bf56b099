"""A user's own scorer: loaded from what they saved, refused with the reason when it cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from visualindex.errors import ProblemError
from visualindex.rerank.cross_scorer import load_cross_scorer
from visualindex.rerank.maxsim import maxsim
from visualindex.rerank.patches import Packed

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")]


class MaxSim(torch.nn.Module):  # type: ignore[misc]
    """The built-in score as a module with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, query: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return (candidates @ query.T).amax(dim=1).mean(dim=1) * self.scale


class OneNumber(MaxSim):
    def forward(self, query: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return self.scale


def no_module() -> dict[str, int]:
    return {}


@pytest.fixture
def packed() -> Packed:
    rng = np.random.default_rng(0)
    return Packed(
        rng.integers(-127, 128, (5, 7, 64), np.int8), rng.uniform(0.001, 0.01, 5).astype(np.float16)
    )


def test_torchscript_scores(tmp_path: Path, packed: Packed) -> None:
    torch.jit.script(MaxSim()).save(str(tmp_path / "scorer.pt"))
    scorer = load_cross_scorer(tmp_path / "scorer.pt", None, width=64)
    query = Packed(packed.codes[:1], packed.scales[:1])
    assert np.allclose(scorer.scores(query, packed), maxsim(query, packed), rtol=1e-3)


def test_a_state_dict_scores_with_its_module(tmp_path: Path, packed: Packed) -> None:
    module = MaxSim()
    module.scale.data.fill_(3)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    scorer = load_cross_scorer(tmp_path / "weights.pt", f"{__name__}:MaxSim", width=64)
    query = Packed(packed.codes[:1], packed.scales[:1])
    assert np.allclose(scorer.scores(query, packed), 3 * maxsim(query, packed), rtol=1e-3)


def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save(MaxSim().state_dict(), good)
    scripted = tmp_path / "one.pt"
    torch.jit.script(OneNumber()).save(str(scripted))
    whole = tmp_path / "whole.pt"
    torch.save(MaxSim(), whole)
    cases = [
        (tmp_path / "absent.pt", None, "is no file here"),
        (good, None, "is no TorchScript.*rerank.crossScorer.module"),
        (scripted, None, r"answered \[\] instead of float32\[2\]"),
        (good, f"{__name__}:Missing", "cannot be made"),
        (good, "no_such_package:Thing", "cannot be made"),
        (good, f"{__name__}:no_module", "gives dict, which is no torch module"),
        (whole, f"{__name__}:MaxSim", "is no state dict of"),
    ]
    for checkpoint, module, message in cases:
        with pytest.raises(ProblemError, match=message):
            load_cross_scorer(checkpoint, module, width=64)


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "harmed",)  # type: ignore[return-value]

    (tmp_path / "harm.pt").write_bytes(pickle.dumps(Harm()))
    for module in (None, f"{__name__}:MaxSim"):
        with pytest.raises(ProblemError):
            load_cross_scorer(tmp_path / "harm.pt", module, width=64)
    assert not (tmp_path / "harmed").exists()
