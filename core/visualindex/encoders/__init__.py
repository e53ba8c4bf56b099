"""Encoders: pictures (and, where the model can, words) to vectors, on CPU or GPU."""

from visualindex.encoders.base import (
    Encoded,
    Encoder,
    EncoderConfigError,
    Fetch,
    Images,
    Parallelism,
    TextNotSupportedError,
    Vectors,
)
from visualindex.encoders.loading import backbone_of, fingerprint_of, input_of, load_encoder, load_unprojected
from visualindex.encoders.projection import Projection, fit_projection, load_projection

__all__ = [
    "Encoded",
    "Encoder",
    "EncoderConfigError",
    "Fetch",
    "Images",
    "Parallelism",
    "Projection",
    "TextNotSupportedError",
    "Vectors",
    "backbone_of",
    "fingerprint_of",
    "fit_projection",
    "input_of",
    "load_encoder",
    "load_projection",
    "load_unprojected",
]
