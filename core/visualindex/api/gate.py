"""What the quality gate says of a generation: kept with it in the catalog, and told by the API as it is."""

import datetime as dt
import uuid
from typing import Literal

from pydantic import BaseModel, Field

Measure = Literal[
    "images", "recall", "selfRetrieval", "agreement", "precision", "scoreShift", "latency", "shadow"
]
Verdict = Literal["passed", "warned", "refused"]


class GateFigures(BaseModel):
    """What was measured of one generation. A figure that could not be measured is null."""

    generation: str = Field(description="The generation.")
    fingerprint: str = Field(description="Fingerprint of the encoder its vectors come from.")
    images: int = Field(description="Images it holds.")
    recall: float | None = Field(
        default=None, description="Share of the true ten nearest that its index finds."
    )
    self_first: float | None = Field(
        default=None, description="Share of changed copies of its images that find their image first."
    )
    self_in_ten: float | None = Field(
        default=None, description="Share that find their image among the first ten."
    )
    precision: float | None = Field(
        default=None, description="Share of the first ten hits that are relevant by the labels."
    )
    score: float | None = Field(default=None, description="Mean score of the first ten hits, a cosine.")
    latency_ms: float | None = Field(
        default=None, description="Median CPU time of one search in milliseconds, of the slowest shard."
    )


class GateFailure(BaseModel):
    """A limit that was missed."""

    measure: Measure = Field(description="What was measured.")
    value: float = Field(description="What came out.")
    limit: float = Field(description="What the spec allows.")
    detail: str = Field(description="The same for a person.")


class WorseQuery(BaseModel):
    """An image whose search got worse. Ranks count from 1; null is not among the first ten."""

    image_id: uuid.UUID = Field(description="The image that was searched with.")
    rank_before: int | None = Field(default=None, description="Where the active generation finds it.")
    rank_after: int | None = Field(default=None, description="Where this one finds it.")
    recall: float | None = Field(default=None, description="Share of its true ten nearest found.")
    overlap: float | None = Field(
        default=None, description="Share of its first ten hits that the active generation has as well."
    )
    precision_before: float | None = Field(
        default=None, description="Its precision with the active generation."
    )
    precision_after: float | None = Field(default=None, description="Its precision with this one.")


class ShadowedQuery(BaseModel):
    """A search of a user that both generations answered."""

    query_id: uuid.UUID = Field(description="The search, as its answer and the search log name it.")
    image_id: uuid.UUID | None = Field(default=None, description="The image that was searched with, if any.")
    overlap: float | None = Field(
        default=None, description="Share of the active generation's first ten hits that this one has, too."
    )
    score_before: float | None = Field(default=None, description="Mean score of the active one's hits.")
    score_after: float | None = Field(default=None, description="Mean score of this one's hits.")
    ms_before: float = Field(description="CPU time of the slowest shard in milliseconds, of the active one.")
    ms_after: float | None = Field(
        default=None, description="The same of this one; null: it did not answer in time."
    )
    lost: list[uuid.UUID] = Field(default=[], description="Hits of the active one that this one has not.")


class ShadowReport(BaseModel):
    """How a candidate answered a share of the searches beside the active generation. Users saw none of its answers."""

    ended: Literal["enough", "time", "overtaken", "impossible"] = Field(
        description="Why it ended: `enough` searches came; the `time` was over; it was `overtaken` by an activation or "
        "another shadow; it was `impossible`, as `problem` says."
    )
    generation: str = Field(description="The candidate.")
    active: str | None = Field(default=None, description="The generation that was active.")
    queries: int = Field(default=0, description="Searches that both answered.")
    wanted: int = Field(description="Searches that were wanted.")
    unanswered: int = Field(default=0, description="Searches that the candidate did not answer in time.")
    share: float = Field(description="Share of the searches that was asked of both.")
    overlap: float | None = Field(
        default=None,
        description="Mean share of the active generation's first ten hits that the candidate has.",
    )
    min_overlap: float = Field(description="The least that is wanted.")
    score_shift: float | None = Field(default=None, description="Change of the mean score of the hits.")
    latency_before_ms: float | None = Field(
        default=None, description="Median CPU time of a search on its slowest shard, of the active one."
    )
    latency_ms: float | None = Field(default=None, description="The same of the candidate.")
    worst: list[ShadowedQuery] = Field(default=[], description="Searches that differ most, the worst first.")
    worst_count: int = Field(
        default=0, description="Searches with less overlap than is wanted; `worst` has the first of them."
    )
    failure: str | None = Field(default=None, description="The limit that is missed, for people.")
    problem: str | None = Field(default=None, description="What kept it from being compared, for people.")
    began_at: dt.datetime | None = Field(
        default=None, description="When the first search could be asked of both."
    )
    ended_at: dt.datetime = Field(description="When it ended.")


class GateReport(BaseModel):
    """A generation measured before it was activated, against the one that was active then."""

    verdict: Verdict = Field(
        description="`passed`; `warned`: a limit is missed, and spec.reindex.gate.mode is `measure`; `refused`: it is "
        "activated by force only."
    )
    candidate: GateFigures = Field(description="The generation that was judged.")
    active: GateFigures | None = Field(
        default=None, description="The one that was active; null where there was none."
    )
    probes: int = Field(description="Images that were asked for.")
    compared: int = Field(default=0, description="Of those, the ones that both generations hold unchanged.")
    copies: Literal["encoded", "perturbed"] = Field(
        default="perturbed",
        description="Changed copies were pictures that the encoder saw, or stored vectors with noise.",
    )
    labels: Literal["feedback", "category"] | None = Field(
        default=None, description="Where relevance comes from; null where too few images have any."
    )
    expected: int | None = Field(
        default=None,
        description="Images of the index that the candidate ought to hold: those that nobody wrote or deleted since, and "
        "that are not in quarantine; null where that is not known any more.",
    )
    missing: int | None = Field(default=None, description="How many of those it lacks.")
    agreement: float | None = Field(
        default=None, description="Share of the first ten hits that both generations have."
    )
    score_shift: float | None = Field(default=None, description="Change of the mean score of the hits.")
    precision_drop: float | None = Field(default=None, description="Loss of precision@10.")
    precision_error: float | None = Field(default=None, description="Standard error of that loss.")
    latency_ratio: float | None = Field(
        default=None, description="CPU time of a search as a multiple of the active generation's."
    )
    remark: str | None = Field(
        default=None, description="Why nothing could be judged, for people; null where something was."
    )
    failures: list[GateFailure] = Field(default=[], description="Limits that are missed.")
    worse: list[WorseQuery] = Field(
        default=[],
        description="Searches that got worse, the worst first; also those that are found badly where nothing is known of "
        "their rank before, as with another encoder.",
    )
    worse_count: int = Field(default=0, description="How many got worse; `worse` has the first of them.")
    seconds: float = Field(default=0, description="How long the gate took.")
    shadow: ShadowReport | None = Field(
        default=None,
        description="How it answered live searches beside that generation, where it did; in comparisons alone.",
    )
