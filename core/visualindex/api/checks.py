"""What is said of the consistency of an index."""

import datetime as dt
import uuid

from pydantic import BaseModel, Field

from visualindex.api.search import ApiModel

DAY_S = 86_400.0
READ_SHARE = 0.01


class CheckRequest(ApiModel):
    """How thorough a check is, and whether it mends what it finds."""

    repair: bool = Field(default=False, description="Mend what differs; without it only tell.")
    vectors: bool = Field(
        default=True,
        description="Compare vectors too, which reads all of them from the database; without it ids and versions alone.",
    )
    originals_share: float = Field(
        default=READ_SHARE,
        ge=0,
        le=1,
        description="Share of the originals, and of the parts of generations, that are read and compared with their "
        "digests; others at every check.",
    )
    orphan_age_s: float = Field(
        default=DAY_S,
        ge=0,
        description="Seconds after which an original that no image refers to counts as left behind.",
    )


class FindingView(BaseModel):
    """One kind of fault in one place."""

    kind: str = Field(
        description="`lost-row`, `stray-vector`, `stale-row`, `damaged-vector`, `missing-vector`, `missing-original`, "
        "`damaged-original`, `orphaned-original`, `missing-manifest`, `missing-part`, `damaged-part`, "
        "`abandoned-generation` or `no-answer`."
    )
    place: str = Field(description="The replica and generation, the object store or the database.")
    count: int = Field(description="How many.")
    mended: int = Field(description="How many of them are no more.")
    examples: list[str] = Field(description="Some of them: image ids, or digests or keys of objects.")
    action: str = Field(description="What was done, or what is left to do.")


class CheckView(BaseModel):
    """The last check of an index that came to its end."""

    job_id: uuid.UUID = Field(description="The job that made it.")
    checked_at: dt.datetime = Field(description="When it ended.")
    consistent: bool = Field(description="Whether no fault is left.")
    repair: bool = Field(description="Whether it mended what it found.")
    images: int = Field(description="Images that the index had.")
    originals: int = Field(description="Originals that the object store had of it.")
    originals_read: int = Field(
        default=0, description="Originals, of these, whose bytes were compared with their digests."
    )
    replicas: int = Field(description="Generations of replicas that were compared with the database.")
    buckets_compared: int = Field(
        description="Buckets whose digests differed, by a fault or a write, so that their rows were compared."
    )
    found: int = Field(description="Faults.")
    mended: int = Field(description="Faults, of these, that are no more.")
    findings: list[FindingView] = Field(description="What they were.")
