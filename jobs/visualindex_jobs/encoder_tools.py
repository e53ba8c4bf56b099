"""What makes vectors and patches of pictures, opened as an index's spec says."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from visualindex.credentials import Credentials
from visualindex.encoders import Encoder, Fetch, load_encoder
from visualindex.encoders.patch_packing import load_packing
from visualindex.rerank.patches import PatchProjection
from visualindex.spec import VisualIndex


@dataclass(frozen=True)
class EncoderTools:
    """An encoder, and what packs its patches where the index keeps some."""

    encoder: Encoder
    packing: PatchProjection | None

    @classmethod
    def open(
        cls, resource: VisualIndex, cache_dir: Path, access: Credentials | None, threads: int
    ) -> "EncoderTools":
        """Load both. Blocks; raises EncoderConfigError, and ProblemError INVALID_REQUEST for patches of another encoder."""
        fetch = fetching(resource, access)
        encoder = load_encoder(resource.spec.encoder, cache_dir=cache_dir, threads=threads, fetch=fetch)
        packing = load_packing(resource.spec.rerank, encoder.backbone, cache_dir=cache_dir, fetch=fetch)
        return cls(encoder, packing)


def fetching(resource: VisualIndex, access: Credentials | None) -> Fetch:
    """What downloads weights."""
    from visualindex.objectstore.download import (
        download,  # the client of buckets is slow to import and rarely needed
    )

    return partial(download, s3=resource.spec.storage.s3, credentials=access)
