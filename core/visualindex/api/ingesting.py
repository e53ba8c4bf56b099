"""What is asked of a batch ingest, and what is said of the objects that a bucket tells of."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from visualindex.api.search import ApiModel, IndexName


class IngestSource(ApiModel):
    """A prefix of a bucket, a folder, a manifest, or an archive."""

    location: str = Field(
        min_length=1,
        max_length=2048,
        description="`s3://BUCKET/prefix/` or an absolute path; the bucket is that of `storage.s3` or one of "
        "`spec.ingest.buckets`, a path lies in one of `spec.ingest.folders`.",
    )
    format: Literal["auto", "objects", "manifest", "webdataset"] = Field(
        default="auto",
        description="`objects`: every picture below the location; `manifest`: CSV, JSONL or Parquet; `webdataset`: a tar. "
        "`auto` goes by the ending.",
    )
    key: Literal["path", "name", "stem"] | None = Field(
        default=None,
        description="Of `objects`: the image's key is the object's path below the location, its file name, or that without "
        "ending. Default: as `spec.ingest.events` has it for its bucket, else `path`.",
    )
    category: Literal["none", "folder"] | None = Field(
        default=None, description="Of `objects`: `folder` takes the first folder below the location."
    )
    remove_missing: bool = Field(
        default=False,
        description="Of `objects`: also delete images that came from objects below the location that are gone.",
    )


class IngestRequest(ApiModel):
    """A batch ingest: what it takes in, one source after the other."""

    index: IndexName | None = Field(
        default=None, description="The index; may be left out when there is only one."
    )
    sources: list[IngestSource] = Field(min_length=1, max_length=100, description="The sources.")
    chunk: int = Field(
        default=128,
        ge=1,
        le=1024,
        description="Entries that are written together; a batch that was killed repeats at most so many.",
    )


class SourceResult(BaseModel):
    """What came of a source."""

    location: str = Field(description="The source.")
    read: int = Field(default=0, description="Entries read.")
    created: int = Field(default=0, description="New images.")
    replaced: int = Field(default=0, description="Images given other content or fields.")
    unchanged: int = Field(default=0, description="Images that were like that already: nothing was written.")
    restored: int = Field(
        default=0,
        description="Of those unchanged: originals put again, which a check had found missing or damaged.",
    )
    reused: int = Field(
        default=0, description="Of those written: how many took the vector of the same content."
    )
    removed: int = Field(default=0, description="Images deleted because their object is gone.")
    refused: int = Field(default=0, description="Entries refused.")
    bytes: int = Field(default=0, description="Bytes of pictures read.")
    examples: list[dict[str, Any]] = Field(
        default_factory=list, description="The first refused entries: place, key, reason."
    )
    state: Literal["done", "broken-off"] = Field(
        default="done",
        description="`broken-off`: it could not be opened, or not be read to its end; the refusals say why.",
    )
    note: str | None = Field(default=None, description="What else there is to know.")


class EventTaken(BaseModel):
    """What an event came to."""

    key: str = Field(description="The object.")
    outcome: Literal["stored", "unchanged", "removed", "absent", "stale", "ignored", "refused"] = Field(
        description="`unchanged`: the index has the object as it is; `absent`: it is gone, and no image came from it; "
        "`stale`: a later event was taken in before; `ignored`: not one of `spec.ingest.events`; `refused`: no picture that "
        "the index takes."
    )
    image_id: str | None = Field(default=None, description="The image, where one was stored.")
    reason: str | None = Field(default=None, description="Why it was refused or ignored.")


class EventsTaken(BaseModel):
    """What the events of a notification came to, in their order."""

    events: list[EventTaken] = Field(description="One entry per event.")
