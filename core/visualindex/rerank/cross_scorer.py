"""A user's own scorer of query and candidate: any torch module over their packed patches.

A cross-scorer looks at both pictures at once, as reranking transformers do (Tan, Yuan & Ordonez, 2021,
arXiv:2103.12236). Its checkpoint is TorchScript, or a state dict whose module is named by import path; a state dict is
loaded with `weights_only`, so that it cannot run code.
"""

import importlib
import importlib.util
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.patches import Packed

if TYPE_CHECKING:
    import torch

_TRIAL_PATCHES = 4


class CrossScorer:
    """A torch module that takes `query` float32[patches, width] and `candidates` float32[n, patches, width], unit vectors,
    and gives float32[n]: the higher, the more alike."""

    def __init__(self, module: "torch.nn.Module", name: str) -> None:
        self._module = module
        self._name = name

    def scores(self, query: Packed, candidates: Packed) -> npt.NDArray[np.float32]:
        """float32[n] for packed patches, `query` of one picture. Raises ProblemError INTERNAL when the module fails or
        answers in another form."""
        import torch

        with torch.inference_mode():
            try:
                answer = self._module(
                    torch.from_numpy(_unpacked(query)[0]), torch.from_numpy(_unpacked(candidates))
                )
            except Exception as e:  # whatever the user's module raises
                raise _failed(self._name, f"it raised {type(e).__name__}: {e}") from e
        return _checked(answer, len(candidates.codes), self._name)


def load_cross_scorer(checkpoint: Path, module: str | None, *, width: int) -> CrossScorer:
    """The scorer in `checkpoint`: TorchScript, or the state dict of what `module` (`package.module:name`) makes.

    `module` names a callable without arguments that returns a torch module. One small call shows that it answers as it
    must. Raises ProblemError INVALID_REQUEST saying what is wrong with which of the two.
    """
    if importlib.util.find_spec("torch") is None:
        raise _refused("rerank.crossScorer needs torch", "install visualindex with the extra `torch`")
    if not checkpoint.is_file():
        raise _refused(f"rerank.crossScorer.checkpoint {checkpoint} is no file here", "check the path")
    loaded = _scripted(checkpoint) if module is None else _built(module, checkpoint)
    scorer = CrossScorer(loaded.eval(), str(checkpoint))
    rng = np.random.default_rng(0)
    trial = Packed(
        rng.integers(-127, 128, (2, _TRIAL_PATCHES, width), np.int8), np.full(2, 1 / 512, np.float16)
    )
    try:
        scorer.scores(Packed(trial.codes[:1], trial.scales[:1]), trial)
    except ProblemError as problem:
        raise _refused(problem.detail, "see docs/reranking.md for what it takes and gives") from problem
    return scorer


def _scripted(checkpoint: Path) -> Any:
    import torch

    # A pickle in TorchScript's clothes would be run: only the archive that torch.jit.save writes is opened.
    if not zipfile.is_zipfile(checkpoint) or not _has_code(checkpoint):
        raise _refused(
            f"rerank.crossScorer.checkpoint {checkpoint} is no TorchScript",
            "save it with torch.jit.save, or name its class in rerank.crossScorer.module",
        )
    try:
        return torch.jit.load(str(checkpoint), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as e:
        raise _refused(
            f"rerank.crossScorer.checkpoint {checkpoint} cannot be loaded", "save it again", e
        ) from e


def _has_code(checkpoint: Path) -> bool:
    with zipfile.ZipFile(checkpoint) as archive:
        return any("/code/" in name for name in archive.namelist())


def _built(module: str, checkpoint: Path) -> Any:
    import torch

    made = _made(module)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        made.load_state_dict(state)
    except Exception as e:  # torch raises half a dozen kinds, pickle's among them
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise _refused(
            f"rerank.crossScorer.checkpoint {checkpoint} is no state dict of {module}",
            "save it with torch.save(module.state_dict(), path)",
            first,
        ) from e
    return made


def _made(path: str) -> Any:
    import torch

    package, _, name = path.partition(":")
    try:
        made = getattr(importlib.import_module(package), name)()
    except Exception as e:  # an import runs the user's code
        raise _refused(
            f"rerank.crossScorer.module {path} cannot be made", "name it as package.module:callable", e
        ) from e
    if not isinstance(made, torch.nn.Module):
        raise _refused(
            f"rerank.crossScorer.module {path} gives {type(made).__name__}, which is no torch module",
            "name a class of torch modules, or a function that returns one",
        )
    return made


def _checked(answer: Any, count: int, name: str) -> npt.NDArray[np.float32]:
    import torch

    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (count,):
        shape = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise _failed(name, f"it answered {shape} instead of float32[{count}]")
    scores = answer.to(torch.float32).numpy()
    if not np.isfinite(scores).all():
        raise _failed(name, "it gave scores that are not finite")
    return np.asarray(scores, np.float32)


def _unpacked(packed: Packed) -> npt.NDArray[np.float32]:
    return packed.codes.astype(np.float32) * packed.scales.astype(np.float32)[:, None, None]


def _failed(name: str, why: str) -> ProblemError:
    return ProblemError(ProblemType.INTERNAL, f"The cross-scorer {name} failed: {why}")


def _refused(what: str, remedy: str, cause: object = None) -> ProblemError:
    because = "" if cause is None else f" ({cause})"
    return ProblemError(ProblemType.INVALID_REQUEST, f"{what}{because}: {remedy}")
