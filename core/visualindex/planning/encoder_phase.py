"""How far an index is on its way from one encoder to another: the same words in a status, over HTTP and on a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_POSSIBLE = ("ready", "preparing", "failed", "kept")


class Phase(StrEnum):
    """Where the change of an encoder stands; also `reason` of the condition ReindexRequired."""

    ENCODER_LOADING = "EncoderLoading"
    ENCODER_UNAVAILABLE = "EncoderUnavailable"
    BOTH_SERVED = "BothServed"
    REINDEXING = "Reindexing"
    CANDIDATE_REFUSED = "CandidateRefused"
    CANDIDATE_READY = "CandidateReady"
    SWITCHING = "Switching"
    SWITCH_FAILED = "SwitchFailed"


class ServedEncoder(Protocol):
    """What is known of an encoder that an index is served with."""

    @property
    def fingerprint(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """`joining`, `required` or `leaving`."""

    @property
    def problem(self) -> str | None:
        """Why a gateway cannot load it."""

    @property
    def generations(self) -> Sequence[str]:
        """Those of its vectors that are there, the newest first."""

    @property
    def held_by(self) -> int:
        """Live gateways that hold it."""

    @property
    def gateways(self) -> int:
        """All live gateways."""


@dataclass(frozen=True)
class Candidate:
    """A generation of the new encoder. `problem` is why it was refused or could not be activated."""

    generation: str
    state: str
    problem: str


@dataclass(frozen=True)
class Progress:
    """A phase, and in a sentence what it means and what to do."""

    phase: Phase
    message: str


def progress(
    index: str,
    encoder: ServedEncoder | None,
    candidates: Sequence[Candidate],
    *,
    rebuilding: bool,
) -> Progress:
    """How far the change to `encoder` is, None where no gateway has entered it yet. `candidates`: the newest first.

    Of these count the ones that may become active.
    """
    if encoder is None or encoder.state != "required":
        return _joining(encoder)
    mine = [one for one in candidates if one.state in _POSSIBLE and one.generation in encoder.generations]
    if any(one.state == "preparing" for one in mine):
        return Progress(
            Phase.SWITCHING, "shards load the generation of the new encoder, then searches change over"
        )
    if rebuilding:
        message = (
            "images are encoded anew; searches use the old encoder, and what is written is encoded with both"
        )
        return Progress(Phase.REINDEXING, message)
    return _candidate(index, mine[0]) if mine else _both_served(index)


def _joining(encoder: ServedEncoder | None) -> Progress:
    if encoder is not None and encoder.problem is not None:
        message = f"the new encoder cannot be loaded: {encoder.problem}; the old one goes on serving"
        return Progress(Phase.ENCODER_UNAVAILABLE, message)
    count = "" if encoder is None else f" ({encoder.held_by} of {encoder.gateways} have it)"
    message = f"gateways load the new encoder{count}; the old one goes on serving"
    return Progress(Phase.ENCODER_LOADING, message)


def _both_served(index: str) -> Progress:
    message = (
        "searches use the old encoder, what is written is encoded with both; encode what is there as well: visualindex "
        f"jobs run reindex {index} --activate"
    )
    return Progress(Phase.BOTH_SERVED, message)


def _candidate(index: str, one: Candidate) -> Progress:
    name = one.generation
    if one.state == "failed":
        return Progress(Phase.SWITCH_FAILED, f"{name}: {one.problem}")
    if one.problem:
        message = (
            f"{name}: {one.problem}; look at it with visualindex index compare, then discard it or activate it with "
            "--force"
        )
        return Progress(Phase.CANDIDATE_REFUSED, message)
    message = f"the new encoder's generation waits: visualindex index activate {index} {name}"
    return Progress(Phase.CANDIDATE_READY, message)
