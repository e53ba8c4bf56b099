"""What a search asks and what it answers."""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

IndexName = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")]
DomainName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Consistency = Literal["eventual", "session", "strong"]


class ApiModel(BaseModel):
    """Strict base of every request: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(ApiModel):
    """A region of the upright image, in fractions of its width and height."""

    x: float = Field(ge=0, lt=1, description="Left edge, 0 to 1.")
    y: float = Field(ge=0, lt=1, description="Top edge, 0 to 1.")
    width: float = Field(gt=0, le=1, description="Width, 0 to 1.")
    height: float = Field(gt=0, le=1, description="Height, 0 to 1.")

    @model_validator(mode="after")
    def _inside(self) -> "Box":
        if self.x + self.width > 1.0001 or self.y + self.height > 1.0001:
            raise ValueError("the box reaches outside the image: x + width and y + height may be at most 1")
        return self

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The box as (x, y, width, height)."""
        return self.x, self.y, self.width, self.height


class Query(ApiModel):
    """What to look for: exactly one of an uploaded picture, `image_url`, `image_id` or `vector`."""

    image_url: str | None = Field(
        default=None,
        max_length=4096,
        description="Address of a picture the service fetches, under `spec.fetch`.",
    )
    image_id: uuid.UUID | None = Field(default=None, description="An indexed image: find what looks like it.")
    vector: list[float] | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="A vector of this index's encoder; it is normalised.",
    )
    fingerprint: str | None = Field(
        default=None,
        max_length=128,
        description="Fingerprint of the encoder that made `vector`; a mismatch is refused.",
    )
    box: Box | None = Field(
        default=None,
        description="Search with this region of the picture only (uploads, URLs and indexed images).",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Query":
        given = [n for n in ("image_url", "image_id", "vector") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of image_url, image_id, vector, not {' and '.join(given)}")
        if self.vector is not None and self.box is not None:
            raise ValueError("a box needs a picture: it cannot be combined with a vector")
        return self

    @property
    def source(self) -> str | None:
        """The name of the given source, None when the picture comes as an upload."""
        return next((n for n in ("image_url", "image_id", "vector") if getattr(self, n) is not None), None)


FieldName = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class GroupBy(ApiModel):
    """At most so many hits for each value of a field."""

    field: FieldName = Field(
        description="The field, as in a filter; an image without it is a group of its own."
    )
    size: int = Field(default=1, ge=1, le=100, description="Most hits of one value.")


class SortBy(ApiModel):
    """The order of a field's value instead of that of scores."""

    field: FieldName = Field(description="The field, as in a filter; images without it come last.")
    order: Literal["asc", "desc"] = Field(default="asc", description="`asc`: the least value first.")


class SearchRequest(ApiModel):
    """One search. In multipart requests it is the `request` part beside the `image` part."""

    index: IndexName | None = Field(
        default=None, description="The index; may be left out when there is only one."
    )
    query: Query = Field(default=Query(), description="What to look for.")
    filter: dict[str, Any] | str | None = Field(
        default=None,
        description="Only items that match: a JSON object, or its short text form such as "
        '`category = "Bed" and price < 100`; see docs/filters.md.',
    )
    limit: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Most hits to return, at most `spec.limits.searchLimit`; 20, or that limit.",
    )
    cursor: str | None = Field(
        default=None,
        max_length=131_072,
        description="Continue an earlier search: its `next_cursor`, without query, filter or scores.",
    )
    min_score: float | None = Field(
        default=None, ge=-1, le=1, description="Leave out hits scored below this cosine."
    )
    include_self: bool = Field(
        default=False, description="Whether a search by `image_id` lists that image too."
    )
    token: str | None = Field(
        default=None,
        max_length=256,
        description="A write's token: the search sees that write or answers 412.",
    )
    consistency: Consistency | None = Field(
        default=None,
        description="`eventual` answers at once; `session` waits for `token`; `strong` waits for every write "
        "acknowledged before the search. Default: `session` with a token, else `eventual`.",
    )
    timeout_ms: int | None = Field(
        default=None, ge=1, le=600_000, description="Deadline in milliseconds; at most the index's own."
    )
    user_id: str | None = Field(
        default=None,
        max_length=128,
        description="Who searches; stored only as a keyed hash in the search log.",
    )
    rerank: bool | Literal["auto", "exact"] = Field(
        default="auto",
        description="Reorder the first hits by local features: `auto` where the index does so by itself, `true` wherever it "
        "can, `false` never; `exact` also verifies copies of the very picture. With a cursor the first page decided.",
    )
    explain: bool = Field(
        default=False,
        description="Add timings and, per shard, how it went about the filter: estimate, plan and actual matches.",
    )
    facets: list[FieldName] = Field(
        default=[],
        max_length=16,
        description="Fields whose values are counted over all images that pass the filter; at most 1,000 values of each.",
    )
    domain: DomainName | Annotated[list[DomainName], Field(min_length=1, max_length=16)] | None = Field(
        default=None,
        description="Only items of this domain of the index, or of any of these; see docs/colours-and-domains.md.",
    )
    group_by: GroupBy | None = Field(default=None, description="Show at most some hits per value of a field.")
    sort: SortBy | None = Field(
        default=None,
        description="Order all images that pass the filter, and `min_score`, by a field. Not with `group_by`.",
    )
    require_complete: bool = Field(
        default=False, description="Answer 503 instead of `complete: false` when a shard is missing or full."
    )

    @model_validator(mode="after")
    def _one_order(self) -> "SearchRequest":
        if self.sort is not None and self.group_by is not None:
            raise ValueError("sort and group_by cannot be combined: leave one out")
        return self

    @property
    def domains(self) -> list[str]:
        """The domains that are named, if any."""
        return [self.domain] if isinstance(self.domain, str) else self.domain or []


class ColourView(BaseModel):
    """One dominant colour of a picture."""

    hex: str = Field(description="The colour as `#rrggbb`.")
    share: float = Field(
        description="Part of the picture, 0 to 1; a plain background counts for at most 0.1."
    )
    name: str = Field(description="Its name, one of thirteen; see docs/colours-and-domains.md.")


class Hit(BaseModel):
    """One item found."""

    image_id: uuid.UUID = Field(description="The image.")
    score: float = Field(description="Cosine similarity to the query, -1 to 1.")
    rerank_score: float | None = Field(
        default=None,
        description="Where the hit was reranked: what it was ordered by, comparable within one search only.",
    )
    key: str | None = Field(default=None, description="The caller's own key (SKU, path).")
    category: str | None = Field(default=None, description="Category.")
    url: str | None = Field(default=None, description="The item's address, as given when it was indexed.")
    metadata: dict[str, Any] | None = Field(default=None, description="The item's metadata document.")
    thumbnails: dict[str, str] = Field(
        default_factory=dict,
        description="Size in pixels → path of the WebP thumbnail; immutable, cacheable for ever.",
    )
    colours: list[ColourView] = Field(
        default_factory=list, description="Dominant colours, largest share first, at most five."
    )


class FacetCount(BaseModel):
    """How many matching images have a value."""

    value: str | int | float | bool = Field(description="The value.")
    count: int = Field(description="Images that pass the filter and have it.")


class ShardExplain(BaseModel):
    """What one shard did."""

    shard: int = Field(description="Shard number.")
    answered: bool = Field(description="Whether it answered before the deadline.")
    rows: int = Field(default=0, description="Live rows it holds.")
    took_ms: float = Field(default=0.0, description="Milliseconds until its answer.")


class SearchResponse(BaseModel):
    """The answer to a search."""

    query_id: uuid.UUID = Field(description="Names this search in feedback.")
    index: str = Field(description="The index searched.")
    hits: list[Hit] = Field(
        description="Best first; ties in the order of their ids. Reranked hits come first, by `rerank_score`."
    )
    complete: bool = Field(
        description="False when a shard did not answer in time, or is too full to hold all its images: hits may be missing."
    )
    missing_shards: list[int] = Field(
        default_factory=list, description="The shards that did not answer, when it is not complete."
    )
    full_shards: list[int] = Field(
        default_factory=list,
        description="The shards that answered without images that do not fit into `index.memoryPerShard`.",
    )
    facets: dict[str, list[FacetCount]] | None = Field(
        default=None,
        description="Field → its values with the number of matching images, most frequent first.",
    )
    degraded: list[str] = Field(
        default_factory=list,
        description="Parts that were left out, e.g. `metadata` while the database restarts.",
    )
    reranked: bool = Field(
        default=False, description="Whether hits of this page were reordered by local features."
    )
    rerank_reason: str | None = Field(
        default=None,
        description="Why they were not, where that was asked for or the index does it by itself.",
    )
    generation: str = Field(description="The index generation that answered.")
    fingerprint: str = Field(description="Fingerprint of the encoder.")
    next_cursor: str | None = Field(default=None, description="Continues this search; absent at the end.")
    took_ms: float = Field(description="Milliseconds from the read request to the answer.")
    explain: dict[str, Any] | None = Field(
        default=None, description="Timings and per-shard counts, when asked for."
    )


class FeedbackEvent(ApiModel):
    """What a person did with a hit."""

    query_id: uuid.UUID = Field(description="The search.")
    image_id: uuid.UUID = Field(description="The hit.")
    event: Literal["click", "view", "purchase", "relevant", "irrelevant"] = Field(
        description="What happened."
    )
    position: int | None = Field(default=None, ge=0, le=100_000, description="Place in the list, from 0.")
    at: dt.datetime | None = Field(default=None, description="When; the server's time if left out.")


class FeedbackAccepted(BaseModel):
    """Feedback was stored."""

    accepted: int = Field(description="Events stored.")


class FeedbackRequest(ApiModel):
    """Feedback events, up to 1,000 at once."""

    index: IndexName | None = Field(
        default=None, description="The index; may be left out when there is only one."
    )
    events: list[FeedbackEvent] = Field(min_length=1, max_length=1000, description="The events.")
