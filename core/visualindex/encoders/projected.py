"""Makes an encoder of a backbone: checks what goes in, projects and normalises what comes out."""

from collections.abc import Sequence

import numpy as np

from visualindex.encoders.backbone import Backbone
from visualindex.encoders.base import (
    Device,
    Encoded,
    Images,
    Load,
    Parallelism,
    Vectors,
    check_images,
    l2_normalise,
)
from visualindex.encoders.projection import Projection
from visualindex.imaging.inputs import InputSpec


class ProjectedEncoder:
    """A backbone, its projection (or none) and the fingerprint of both."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        input_: InputSpec,
        dimension: int,
        projection: Projection | None,
        fingerprint: str,
        backbone_fingerprint: str,
        threads: int,
    ) -> None:
        self.input = input_
        self.dimension = dimension
        self.fingerprint = fingerprint
        self.backbone = backbone_fingerprint
        self.threads = threads
        self._backbone = backbone
        self._projection = projection

    @property
    def device(self) -> Device:
        """Where the model computes."""
        return self._backbone.device

    @property
    def prefers(self) -> Load:
        """How to feed the model under load."""
        return self._backbone.prefers

    def encode(
        self, images: Images, *, patches: bool = False, parallelism: Parallelism = "latency"
    ) -> Encoded:
        """Encode uint8[n, height, width, 3] RGB; see `Encoder.encode`."""
        check_images(images, self.input)
        features = self._backbone.run(np.ascontiguousarray(images), patches=patches, parallelism=parallelism)
        return Encoded(self._vectors(features.pooled), features.patches)

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Encode words; see `Encoder.encode_text`."""
        return self._vectors(self._backbone.run_text(texts))

    def close(self) -> None:
        """Free the model's memory."""
        self._backbone.close()

    def _vectors(self, raw: Vectors) -> Vectors:
        unit = l2_normalise(raw)
        return unit if self._projection is None else self._projection.apply(unit)
