"""The projection that packs the patches of an index's encoder."""

from pathlib import Path

from visualindex.encoders.base import Fetch
from visualindex.encoders.checkpoint import local_file
from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.patches import PatchProjection, load_patch_projection, shipped_projection
from visualindex.spec.models import RerankSpec


def load_packing(
    spec: RerankSpec, backbone: str, *, cache_dir: Path, fetch: Fetch | None = None
) -> PatchProjection | None:
    """What packs the patches of the encoder whose unprojected fingerprint is `backbone`; None where none are kept.

    Blocks. Raises ProblemError INVALID_REQUEST where there is none that was fitted on this encoder, and
    EncoderConfigError where the file cannot be had.
    """
    if not spec.kept:
        return None
    if spec.projection is None:
        found = shipped_projection(backbone)
    else:
        what = "rerank.projection"
        found = load_patch_projection(
            local_file(spec.projection, cache_dir=cache_dir, fetch=fetch, what=what)
        )
    if found is None or found.encoder != backbone:
        detail = (
            "rerank.projection was not fitted on this encoder: fit one with `visualindex encoder fit-patches`, or set "
            "rerank.mode: never"
        )
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    return found
