"""The `VisualIndex` spec: models and the strict reader of YAML files."""

from visualindex.spec.load import from_live, load_specs, parse_spec
from visualindex.spec.models import (
    API_VERSION,
    KIND,
    AccessSpec,
    EncoderSpec,
    FetchSpec,
    GatewaySpec,
    HnswSpec,
    IndexSpec,
    LimitsSpec,
    PostgresSpec,
    RaySpec,
    S3Spec,
    SearchLogSpec,
    SecretKeyRef,
    Spec,
    StorageSpec,
    VisualIndex,
)
from visualindex.spec.problems import SpecError, SpecProblem

__all__ = [
    "API_VERSION",
    "KIND",
    "AccessSpec",
    "EncoderSpec",
    "FetchSpec",
    "GatewaySpec",
    "HnswSpec",
    "IndexSpec",
    "LimitsSpec",
    "PostgresSpec",
    "RaySpec",
    "S3Spec",
    "SearchLogSpec",
    "SecretKeyRef",
    "Spec",
    "SpecError",
    "SpecProblem",
    "StorageSpec",
    "VisualIndex",
    "from_live",
    "load_specs",
    "parse_spec",
]
