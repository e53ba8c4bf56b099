"""What of a spec decides an encoder: kept with the vectors that it made, so that it can be loaded again when the spec
names another one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from visualindex.spec.models import EncoderSpec, Spec, VisualIndex

IDENTITY = ("family", "model", "checkpoint", "dimension", "projection")
"""The fields that name a space of vectors; all others say how fast it is reached."""


def encoder_settings(spec: Spec) -> dict[str, Any]:
    """Plain JSON that loads the encoder of a spec, and what packs its patches: whole, for a default may change."""
    encoder = section_of(spec.encoder)
    packing = spec.rerank.projection
    return {"encoder": encoder, **({} if packing is None else {"rerankProjection": packing})}


def section_of(encoder: EncoderSpec) -> dict[str, Any]:
    """An encoder's section as plain JSON, with its defaults."""
    return encoder.model_dump(mode="json", by_alias=True, exclude_none=True)


def with_settings(resource: VisualIndex, settings: Mapping[str, Any]) -> VisualIndex:
    """The resource with an encoder as `encoder_settings` kept it. Raises pydantic.ValidationError for what is none."""
    encoder = EncoderSpec.model_validate(settings["encoder"])
    rerank = resource.spec.rerank.model_copy(update={"projection": settings.get("rerankProjection")})
    spec = resource.spec.model_copy(update={"encoder": encoder, "rerank": rerank})
    return resource.model_copy(update={"spec": spec})


def same_space(one: EncoderSpec, other: EncoderSpec) -> bool:
    """Whether two sections name the same space of vectors."""
    return all(getattr(one, key) == getattr(other, key) for key in IDENTITY)


def identity_of(encoder: EncoderSpec) -> str:
    """8 hex digits that name the space of vectors of a section, for what is named after it."""
    text = json.dumps([getattr(encoder, key) for key in IDENTITY])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def named(settings: Mapping[str, Any]) -> str:
    """Family and model of what `encoder_settings` kept, whatever release did: `open_clip/ViT-B-32`."""
    section = settings.get("encoder") or {}
    return "/".join(str(section[key]) for key in ("family", "model") if section.get(key))


def shown(encoder: EncoderSpec) -> str:
    """The section in a few words for people: `open_clip/ViT-B-32, 512 dimensions`."""
    name = encoder.family if encoder.model is None else f"{encoder.family}/{encoder.model}"
    return f"{name}, {encoder.dimension} dimensions"
