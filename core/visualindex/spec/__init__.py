"""The `VisualIndex` spec: models and the strict reader of YAML files."""

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
    S3Spec,
    SearchLogSpec,
    SecretKeyRef,
    Spec,
    StorageSpec,
    VisualIndex,
)

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
    "S3Spec",
    "SearchLogSpec",
    "SecretKeyRef",
    "Spec",
    "StorageSpec",
    "VisualIndex",
]
