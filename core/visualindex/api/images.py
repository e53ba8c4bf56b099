"""What an image looks like on its way in and out."""

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field

from visualindex.api.search import ApiModel, Box, ColourView, IndexName


class ImageFields(ApiModel):
    """What a caller says of an image. `image_id` or `key` make the write repeatable: the same name, the same image."""

    image_id: uuid.UUID | None = Field(
        default=None, description="The image's id; made from `key` or at random if absent."
    )
    key: str | None = Field(
        default=None, min_length=1, max_length=1024, description="Your own key (SKU, path)."
    )
    category: str | None = Field(default=None, max_length=256, description="Category.")
    url: str | None = Field(default=None, max_length=4096, description="The item's address, shown with hits.")
    metadata: dict[str, Any] = Field(
        default_factory=dict, description="Any JSON object; filters can use its values."
    )


class ImageRequest(ImageFields):
    """One image by address, as JSON. In multipart requests the `image` part replaces `image_url`."""

    index: IndexName | None = Field(
        default=None, description="The index; may be left out when there is only one."
    )
    image_url: str | None = Field(
        default=None, max_length=4096, description="Where the service fetches the picture."
    )


class BatchRequest(ApiModel):
    """Many images at once: by address as JSON, or as the `request` part beside the files of a form."""

    index: IndexName | None = Field(
        default=None, description="The index; may be left out when there is only one."
    )
    images: list[dict[str, Any]] | None = Field(
        default=None,
        min_length=1,
        description="Each an ImageRequest without `index`; with files, the fields of each file in their order. An "
        "image that is described wrongly fails alone.",
    )


class EmbeddingRequest(ApiModel):
    """A picture by address; in multipart requests the `image` part replaces `image_url`."""

    index: IndexName | None = Field(
        default=None, description="The index; may be left out when there is only one."
    )
    image_url: str | None = Field(
        default=None, max_length=4096, description="Where the service fetches the picture."
    )
    box: Box | None = Field(default=None, description="Encode this region of the picture only.")


class ImagePatch(ApiModel):
    """A JSON merge patch (RFC 7396): absent fields stay, null removes."""

    category: str | None = Field(default=None, max_length=256, description="New category; null removes it.")
    url: str | None = Field(default=None, max_length=4096, description="New address; null removes it.")
    metadata: dict[str, Any] | None = Field(
        default=None, description="Merged into the metadata; null values remove keys, null removes all."
    )


class EmbeddingState(BaseModel):
    """What is known of an image's vector."""

    state: Literal["stored", "indexed"] = Field(description="`indexed`: every live replica serves it.")
    fingerprint: str = Field(description="Encoder fingerprint.")
    dimension: int = Field(description="Vector dimension.")


class ImageWritten(BaseModel):
    """A write's acknowledgement: the object store and the database have it."""

    image_id: uuid.UUID = Field(description="The image.")
    key: str | None = Field(default=None, description="The caller's own key.")
    created: bool = Field(description="False when an earlier image of that id or key was replaced.")
    embedding: EmbeddingState = Field(description="State of the vector.")
    token: str = Field(description="Send it with a search to see this write.")


class ImageView(BaseModel):
    """An indexed image."""

    image_id: uuid.UUID = Field(description="The image.")
    index: str = Field(description="The index.")
    key: str | None = Field(default=None, description="The caller's own key.")
    category: str | None = Field(default=None, description="Category.")
    url: str | None = Field(default=None, description="The item's address.")
    metadata: dict[str, Any] = Field(description="Metadata document.")
    upload_time: dt.datetime = Field(description="When it was first stored.")
    media_type: str = Field(description="Media type of the original.")
    width: int = Field(description="Upright width in pixels.")
    height: int = Field(description="Upright height in pixels.")
    size_bytes: int = Field(description="Size of the original in bytes.")
    content_digest: str = Field(description="SHA-256 of the original, hexadecimal.")
    thumbnails: dict[str, str] = Field(description="Size in pixels → path of the WebP thumbnail.")
    colours: list[ColourView] = Field(
        default_factory=list,
        description="Dominant colours, largest share first, at most five; none when stored before they were looked for.",
    )
    embedding: EmbeddingState | None = Field(
        default=None, description="State of the vector; absent in lists."
    )


class ImageList(BaseModel):
    """One page of images, newest first."""

    images: list[ImageView] = Field(description="The page.")
    next_cursor: str | None = Field(default=None, description="Continues the list; absent at the end.")


class ImageChanged(BaseModel):
    """A change's acknowledgement."""

    image_id: uuid.UUID = Field(description="The image.")
    token: str = Field(description="Send it with a search to see this change.")


class BatchItem(BaseModel):
    """The outcome for one image of a batch, in the order given."""

    position: int = Field(description="Place in the batch, from 0.")
    written: ImageWritten | None = Field(default=None, description="The acknowledgement.")
    problem: dict[str, Any] | None = Field(
        default=None, description="The problem document of a refused image."
    )


class BatchResult(BaseModel):
    """The outcome of a batch: each image stands or falls by itself."""

    succeeded: int = Field(description="Images written.")
    failed: int = Field(description="Images refused.")
    items: list[BatchItem] = Field(description="One entry per image.")


class EmbeddingResponse(BaseModel):
    """An image's vector."""

    vector: list[float] = Field(description="L2-normalised vector.")
    dimension: int = Field(description="Its dimension.")
    fingerprint: str = Field(description="Encoder fingerprint; vectors of two fingerprints never meet.")


class ReplicaView(BaseModel):
    """A live replica of a shard."""

    shard: int = Field(description="Shard number.")
    replica: str = Field(description="Replica name.")
    rows: int = Field(description="Live rows it serves.")
    seen_at: dt.datetime = Field(description="Its last heartbeat.")
    shards: int | None = Field(
        default=None, description="The number of shards it belongs to; while that changes, there are two."
    )
    generations: list[str] = Field(default_factory=list, description="Generations it can answer for.")
    fresh: int = Field(default=0, description="Rows, of those it serves, that no generation holds.")
    live_recall: float | None = Field(
        default=None,
        description="Share of the true first ten hits of its rows that sampled searches found; null without samples.",
    )
    live_recall_samples: int = Field(default=0, description="How many samples: the latest, at most 1,000.")


class RecallView(BaseModel):
    """The recall of a generation, measured when it was built."""

    recall: float = Field(description="Share of the true ten nearest that held-out queries found.")
    target: float = Field(description="What `spec.index.targetRecall` asked for.")
    met: bool = Field(description="Whether every shard reaches it.")
    curves: list[dict[str, Any]] = Field(
        default_factory=list,
        description="For each shard it was built for what was measured: recall and latency by effort, and the effort "
        "chosen; not in lists of indexes.",
    )


class LiveRecallView(BaseModel):
    """The recall of searches that users made, over all replicas."""

    recall: float = Field(description="Mean share of the true first ten hits that sampled searches found.")
    samples: int = Field(description="How many samples.")


class DomainView(BaseModel):
    """A domain that searches of an index can name."""

    name: str = Field(description="The domain.")
    filter: dict[str, Any] | str | None = Field(default=None, description="Which images it has; null: all.")
    attributes: list[str] = Field(description="Its facets, where a search says none.")
    min_score: float | None = Field(default=None, description="Least score, where a search says none.")
    limit: int | None = Field(default=None, description="Most hits, where a search says none.")


class RerankView(BaseModel):
    """Whether an index reorders its first hits by local features, and what was measured of it."""

    mode: Literal["never", "auto", "always"] = Field(description="`spec.rerank.mode`.")
    on: bool = Field(description="Whether searches that leave it to the index are reranked.")
    gain: float | None = Field(
        default=None,
        description="Measured on changed copies of own pictures: by how much more of them are found first. Null: not "
        "measured for this encoder.",
    )
    lower_bound: float | None = Field(default=None, description="Lower end of the gain's 95 % interval.")
    weight: float | None = Field(
        default=None, description="Fitted weight of local features against the first stage's score."
    )
    reason: str | None = Field(default=None, description="The measurement in a sentence.")


class EncoderView(BaseModel):
    """An encoder that an index is served with."""

    fingerprint: str = Field(description="Its fingerprint.")
    dimension: int = Field(description="Dimension of its vectors.")
    encoder: str = Field(description="Family and model.")
    state: Literal["joining", "required", "leaving"] = Field(
        description="`joining`: gateways load it; `required`: every gateway has it and every write is encoded with it; "
        "`leaving`: nothing needs it any more, its vectors are deleted."
    )
    searched: bool = Field(description="Whether searches use it.")
    named: bool = Field(description="Whether the spec of a gateway names it.")
    complete: bool = Field(description="Whether every image has its vector, those in quarantine apart.")
    generations: list[str] = Field(description="Generations of its vectors, the newest first.")
    held_by: int = Field(description="Gateways that have it loaded.")
    gateways: int = Field(description="Gateways there are.")
    problem: str | None = Field(default=None, description="Why a gateway cannot load it.")


class MigrationView(BaseModel):
    """How far an index is on its way to the encoder that its spec names."""

    phase: str = Field(
        description="`EncoderLoading`, `EncoderUnavailable`, `BothServed`, `Reindexing`, `CandidateRefused`, "
        "`CandidateReady`, `Switching` or `SwitchFailed`."
    )
    message: str = Field(description="What that means, and what to do.")
    encoder: str = Field(description="Fingerprint of the encoder that the spec names.")


class IndexView(BaseModel):
    """One index and how it is doing."""

    name: str = Field(description="The index.")
    encoder: str = Field(description="Encoder family and model.")
    fingerprint: str = Field(description="Encoder fingerprint.")
    dimension: int = Field(description="Vector dimension.")
    images: int = Field(description="Images stored.")
    shards: int = Field(default=1, description="Shards that searches ask.")
    generation: str = Field(default="live", description="The generation it serves; `live` without any.")
    families: list[str] = Field(default_factory=list, description="Index families of that generation.")
    recall: RecallView | None = Field(
        default=None, description="Measured recall of that generation; null without any."
    )
    live_recall: LiveRecallView | None = Field(
        default=None, description="Recall of searches that users made; null without samples."
    )
    replicas: list[ReplicaView] = Field(description="Live replicas of all shards.")
    rerank: RerankView | None = Field(
        default=None, description="Reranking; null from a service of the release before."
    )
    domains: list[DomainView] = Field(default_factory=list, description="Parts of it that searches can name.")
    encoders: list[EncoderView] = Field(
        default_factory=list,
        description="Every encoder that it is served with: two while it moves to another.",
    )
    rolled_back_at: dt.datetime | None = Field(
        default=None,
        description="When it went back to an earlier generation: while that is served nothing is folded by itself.",
    )
    migration: MigrationView | None = Field(
        default=None,
        description="Its move to another encoder; null while it has the one that the spec names.",
    )
