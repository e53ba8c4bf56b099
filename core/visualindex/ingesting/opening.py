"""From what is asked for to a source that can be read."""

import asyncio
import uuid
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from visualindex.api.ingesting import IngestSource
from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching import SafeFetcher
from visualindex.ingesting.entries import Source
from visualindex.ingesting.manifest_rows import COLUMNS, MANIFESTS, reader_of
from visualindex.ingesting.naming import NameRule
from visualindex.ingesting.places import Located, Places, find_bucket
from visualindex.ingesting.source_manifest import ManifestSource, unreadable
from visualindex.ingesting.source_objects import ObjectsSource
from visualindex.ingesting.source_webdataset import WebDatasetSource
from visualindex.spec import Spec

Format = Literal["objects", "manifest", "webdataset"]


def format_of(asked: IngestSource) -> Format:
    """The format that is asked for, or that the ending tells."""
    if asked.format != "auto":
        return asked.format
    suffix = PurePosixPath(asked.location).suffix.lower()
    return "manifest" if suffix in MANIFESTS else "webdataset" if suffix == ".tar" else "objects"


def check_source(spec: Spec, places: Places, asked: IngestSource) -> None:
    """Raise ProblemError FORBIDDEN or INVALID_REQUEST for a source that cannot be one, without reading any of it."""
    places.locate(asked.location)
    if asked.remove_missing and format_of(asked) != "objects":
        detail = f"{asked.location}: remove_missing is for prefixes and folders; a manifest does not say what is gone"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    if format_of(asked) == "manifest" and reader_of(Path(asked.location), COLUMNS) is None:
        detail = f"{asked.location} is no manifest: manifests end with {', '.join(MANIFESTS)}"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)


async def open_source(
    spec: Spec, places: Places, asked: IngestSource, fetcher: SafeFetcher, scratch: Path
) -> Source:
    """The source; manifests and archives are copied to `scratch`. Raises as `check_source`, NOT_FOUND, UNAVAILABLE."""
    check_source(spec, places, asked)
    located = places.locate(asked.location)
    most = spec.limits.image_bytes
    kind = format_of(asked)
    if kind == "objects":
        return ObjectsSource(located, rule_of(spec, located, asked), most)
    await asyncio.to_thread(partial(scratch.mkdir, parents=True, exist_ok=True))
    copy = scratch / f"{uuid.uuid4().hex}{PurePosixPath(located.key).suffix.lower()}"
    await located.objects.save(located.key, copy)
    if kind == "webdataset":
        return WebDatasetSource(copy, asked.location, most, spec.limits.metadata_bytes)
    reader = reader_of(copy, COLUMNS)
    assert reader is not None  # noqa: S101 - checked above
    rows = partial(reader, copy)
    timeout_s = spec.fetch.timeout_ms / 1000
    total = await asyncio.to_thread(_rows_of, copy, asked.location)
    return ManifestSource(located, asked.location, rows, fetcher, most, timeout_s, total)


def rule_of(spec: Spec, located: Located, asked: IngestSource) -> NameRule:
    """How objects name images: as asked, else as events about the same bucket do, so that both mean the same images."""
    events = spec.ingest.events
    if events is not None and located.bucket is not None and located.key.startswith(events.prefix):
        told = find_bucket(spec, events.bucket).s3
        if (told.endpoint, told.bucket) == (located.bucket.endpoint, located.bucket.bucket):
            return NameRule(events.prefix, asked.key or events.key, asked.category or events.category)
    return NameRule(located.key, asked.key or "path", asked.category or "none")


def _rows_of(path: Path, name: str) -> int:
    """How many rows there are, where that takes no reading of them; else 0."""
    if path.suffix != ".parquet":
        return 0
    import pyarrow.parquet

    try:
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    except ValueError as error:
        raise unreadable(name, error) from error
