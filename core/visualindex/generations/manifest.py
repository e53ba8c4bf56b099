"""What a generation is: its manifest, and the id that equal inputs and equal files give."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

FORMAT = 1
"""The format that this release writes. A release reads the format before its own as well, and no newer one."""
PART_BYTES = 32 * 1024**2
"""Longest part of a file in the object store: what one transfer holds in memory, and what a failed one repeats."""
_GENERATION_DIGITS = 16


@dataclass(frozen=True)
class FileEntry:
    """One file of a shard: where its bytes are, and how to tell that they are right."""

    name: str
    """Its name within the shard's directory."""
    bytes: int
    """Length."""
    digest: str
    """SHA-256 over the digests of the parts, in hexadecimal: names the content."""
    checksum: str
    """XXH3-128 of the whole file, in hexadecimal: cheap enough to be verified at every open."""
    parts: tuple[str, ...]
    """SHA-256 of each part, in hexadecimal; every part but the last has `Manifest.part_bytes`."""


@dataclass(frozen=True)
class ShardFiles:
    """The files of one shard and the buckets whose images they hold."""

    buckets: range
    """Consecutive buckets."""
    images: int
    """Images, before any is masked."""
    files: tuple[FileEntry, ...]
    """Ordered by name."""


@dataclass(frozen=True)
class Manifest:
    """An immutable snapshot of an index: files by content, what they were built from, and what was measured."""

    format: int
    index: str
    fingerprint: str
    """Of the encoder."""
    dimension: int
    metric: str
    watermark: str
    """Position of the change log up to which changes are contained, as text."""
    shards: tuple[ShardFiles, ...]
    parameters: dict[str, Any]
    """How it was built, as JSON."""
    recall: dict[str, Any]
    """What was measured, as JSON. No part of the id: a repeated build measures other times."""
    release: str
    """Release of the software that built it. No part of the id."""
    created_at: str
    """When it was built. No part of the id."""
    part_bytes: int = PART_BYTES
    """Length of every part of a file but its last."""

    @property
    def generation(self) -> str:
        """The id: 16 hexadecimal digits that are equal for equal inputs and equal files."""
        measured = ("recall", "release", "created_at")
        content = {key: value for key, value in document_of(self).items() if key not in measured}
        return hashlib.sha256(canonical(content)).hexdigest()[:_GENERATION_DIGITS]

    @property
    def contents(self) -> str:
        """16 hexadecimal digits that are equal for equal files and encoders, whatever moment they were read at."""
        document = document_of(self)
        content = {key: document[key] for key in ("index", "fingerprint", "dimension", "metric", "shards")}
        return hashlib.sha256(canonical(content)).hexdigest()[:_GENERATION_DIGITS]

    def to_json(self) -> bytes:
        """The manifest as it is stored: canonical JSON with a digest of its own.

        Raises ValueError when `parameters` or `recall` hold what JSON cannot say (NaN, infinities, keys that are no text).
        """
        document = document_of(self)
        return canonical({**document, "sha256": document_digest(document)})

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """The manifest that `to_json` wrote.

        Raises ProblemError: INTERNAL naming what is wrong with the bytes, UNAVAILABLE when they are of a format that this
        release does not read.
        """
        from visualindex.generations.reading import manifest_of  # needs the classes above

        return manifest_of(data)


def file_digest(parts: tuple[str, ...]) -> str:
    """The digest of a file from those of its parts, all in hexadecimal."""
    return hashlib.sha256(b"".join(bytes.fromhex(part) for part in parts)).hexdigest()


def canonical(document: dict[str, Any]) -> bytes:
    """The one way to write a JSON document: equal documents give equal bytes, in every release."""
    _refuse_other_keys(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def document_digest(document: dict[str, Any]) -> str:
    """SHA-256 of a document without its digest, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def document_of(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values, without a digest."""
    return {
        "format": manifest.format,
        "index": manifest.index,
        "fingerprint": manifest.fingerprint,
        "dimension": manifest.dimension,
        "metric": manifest.metric,
        "watermark": manifest.watermark,
        "part_bytes": manifest.part_bytes,
        "shards": [_shard_document(shard) for shard in manifest.shards],
        "parameters": manifest.parameters,
        "recall": manifest.recall,
        "release": manifest.release,
        "created_at": manifest.created_at,
    }


def _shard_document(shard: ShardFiles) -> dict[str, Any]:
    return {
        "buckets": [shard.buckets.start, shard.buckets.stop],
        "images": shard.images,
        "files": [{**vars(entry), "parts": list(entry.parts)} for entry in shard.files],
    }


def _refuse_other_keys(value: Any) -> None:
    """`json` would write the key 1 like "1", so that two documents had one text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{key!r} is no key of a JSON object: use text")
            _refuse_other_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_other_keys(inner)
