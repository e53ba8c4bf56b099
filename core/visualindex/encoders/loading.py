"""From a specification to an encoder: finds the model, its projection and its fingerprint, and loads it."""

from collections.abc import Callable
from pathlib import Path

from visualindex.encoders.backbone import Model
from visualindex.encoders.base import Encoder, EncoderConfigError, Fetch
from visualindex.encoders.checkpoint import local_file
from visualindex.encoders.fingerprint import fingerprint
from visualindex.encoders.lite0 import Lite0Model, bundled_weights
from visualindex.encoders.placement import placement_of
from visualindex.encoders.projected import ProjectedEncoder
from visualindex.encoders.projection import Projection, load_projection, load_shipped_projection
from visualindex.imaging.inputs import InputSpec
from visualindex.spec.models import EncoderSpec


def load_encoder(
    spec: EncoderSpec, *, cache_dir: Path, threads: int = 1, fetch: Fetch | None = None
) -> Encoder:
    """The encoder of `spec` with so many CPU threads, ready to encode.

    `cache_dir` keeps built and fetched files. Raises EncoderConfigError when the encoder cannot be had.
    """
    model = _model(spec, cache_dir, fetch)
    return _assembled(model, _projection(spec, model, cache_dir, fetch), threads)


def load_unprojected(
    spec: EncoderSpec, *, cache_dir: Path, threads: int = 1, fetch: Fetch | None = None
) -> Encoder:
    """The encoder of `spec` at the model's own dimension, whatever the spec asks for: what a projection is fitted on."""
    return _assembled(_model(spec, cache_dir, fetch), None, threads)


def fingerprint_of(spec: EncoderSpec, cache_dir: Path, fetch: Fetch | None = None) -> str:
    """The fingerprint that `load_encoder` would give, without loading the model."""
    model = _model(spec, cache_dir, fetch)
    return _fingerprint(model, _projection(spec, model, cache_dir, fetch))


def backbone_of(spec: EncoderSpec, cache_dir: Path, fetch: Fetch | None = None) -> str:
    """The `Encoder.backbone` that `load_encoder` would give, without loading the model."""
    return _fingerprint(_model(spec, cache_dir, fetch), None)


def input_of(spec: EncoderSpec, cache_dir: Path, fetch: Fetch | None = None) -> InputSpec:
    """The pixels that the encoder of `spec` takes, without loading the model."""
    return _model(spec, cache_dir, fetch).input


def _assembled(model: Model, projection: Projection | None, threads: int) -> Encoder:
    if threads < 1:
        raise EncoderConfigError(f"an encoder cannot run on {threads} threads: give it at least one")
    return ProjectedEncoder(
        model.load(threads),
        input_=model.input,
        dimension=model.dimension if projection is None else projection.rows,
        projection=projection,
        fingerprint=_fingerprint(model, projection),
        backbone_fingerprint=_fingerprint(model, None),
        threads=threads,
    )


def _model(spec: EncoderSpec, cache_dir: Path, fetch: Fetch | None) -> Model:
    placement = placement_of(spec)
    if spec.family == "efficientnet-lite0":
        return Lite0Model(_lite0_weights(spec, cache_dir, fetch), cache_dir, placement)
    if not spec.model or not spec.checkpoint:
        raise EncoderConfigError(f"family {spec.family} needs encoder.model and encoder.checkpoint")
    return _finder(spec)(spec.model, spec.checkpoint, cache_dir=cache_dir, fetch=fetch, placement=placement)


def _finder(spec: EncoderSpec) -> Callable[..., Model]:
    """The families on torch are imported only when asked for: the import alone takes seconds."""
    if spec.family == "open_clip":
        from visualindex.encoders.open_clip_model import open_clip_model

        return open_clip_model
    from visualindex.encoders.timm_model import timm_model

    return timm_model


def _lite0_weights(spec: EncoderSpec, cache_dir: Path, fetch: Fetch | None) -> Path:
    if spec.checkpoint is None:
        return bundled_weights()
    return local_file(spec.checkpoint, cache_dir=cache_dir, fetch=fetch, what="encoder.checkpoint")


def _projection(spec: EncoderSpec, model: Model, cache_dir: Path, fetch: Fetch | None) -> Projection | None:
    if spec.dimension == model.dimension:
        return None
    if spec.dimension > model.dimension:
        raise EncoderConfigError(
            f"encoder.dimension is {spec.dimension}, but the model has {model.dimension}: ask for no more than that"
        )
    found = _found_projection(spec, model, cache_dir, fetch)
    if found.encoder != _fingerprint(model, None):
        raise EncoderConfigError(
            "the projection was fitted on another encoder (other model, weights or preprocessing): "
            "fit one with `visualindex encoder fit`"
        )
    return found.truncated(spec.dimension)


def _found_projection(spec: EncoderSpec, model: Model, cache_dir: Path, fetch: Fetch | None) -> Projection:
    if spec.projection is not None:
        what = "encoder.projection"
        return load_projection(local_file(spec.projection, cache_dir=cache_dir, fetch=fetch, what=what))
    if model.default_projection is None:
        raise EncoderConfigError(
            f"encoder.dimension {spec.dimension} is below the model's {model.dimension}, which needs "
            "encoder.projection: fit one with `visualindex encoder fit`, or ask for the model's dimension"
        )
    return load_shipped_projection(model.default_projection)


def _fingerprint(model: Model, projection: Projection | None) -> str:
    shape = model.input
    return fingerprint(
        {
            **model.identity,
            "input": [shape.height, shape.width, shape.resize, shape.interpolation],
            "projection": projection and projection.digest,
            "dimension": projection.rows if projection else model.dimension,
        }
    )
