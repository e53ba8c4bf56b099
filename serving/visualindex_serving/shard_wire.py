"""What gateways and shards say to each other, as frames: queries, answers, problems, and who they are.

Time travels as what is left of it, so that the clocks of two nodes need not agree.
"""

import hashlib
import hmac
import math
import time
from dataclasses import astuple, dataclass
from typing import Any, Literal

import numpy as np
import orjson

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.deadlines import remaining
from visualindex_serving.frames import Head, frame
from visualindex_serving.messages import Group, ShardAnswer, ShardQuery, Sort, Value

VERSION = 1
_ID_BYTES = 16


@dataclass(frozen=True)
class Place:
    """What a replica holds: shard `shard` of `shards` of an index, named with the fingerprint of its first encoder."""

    index: str
    shard: int
    shards: int
    fingerprint: str


NEWS = frame({"news": True})
"""Tells a shard that something was written just now. It answers nothing."""


def query_frame(number: int, query: ShardQuery) -> bytes:
    """A query under a number that its answer will carry. Body: float32[q, d], then the excluded ids."""
    head = {
        "number": number,
        "shape": query.vectors.shape,
        "k": query.k,
        "filter": query.filter,
        "left_s": remaining(query.deadline),
        "token": query.token,
        "strong": query.strong,
        "wait_s": query.wait_s,
        "generation": query.generation,
        **_extras(query),
    }
    return frame(head, np.asarray(query.vectors, "<f4").tobytes(), *query.exclude)


def _extras(query: ShardQuery) -> dict[str, Any]:
    """What few searches ask for."""
    extras: dict[str, Any] = {}
    if query.min_score is not None:
        extras["min_score"] = query.min_score
    if query.facets:
        extras["facets"] = query.facets
    if query.group is not None:
        extras["group"] = astuple(query.group)
    if query.sort is not None:
        after = query.sort.after
        shown = None if after is None else (after[0], after[1].hex())
        extras["sort"] = (query.sort.field, query.sort.direction, shown, query.sort.times)
    if query.explain:
        extras["explain"] = True
    if query.background:
        extras["background"] = True
    return extras


def _sort(told: Any) -> Sort | None:
    if told is None:
        return None
    field, direction, after, times = told
    if after is None:
        return Sort(field, direction, None, times)
    value, image_id = after
    return Sort(field, direction, (_value(value), bytes.fromhex(image_id)), times)


def _value(told: Any) -> Value | None:
    """JSON has no tuples."""
    if told is None or isinstance(told, str | int | float):
        return told
    kind, truth = told
    return str(kind), bool(truth)


def read_query(head: Head, body: bytes) -> ShardQuery:
    """The query of a frame. Raises KeyError, TypeError or ValueError for a malformed one."""
    rows, dimension = head["shape"]
    size = rows * dimension * 4
    excluded = body[size:]
    return ShardQuery(
        vectors=np.frombuffer(body[:size], "<f4").reshape(rows, dimension),
        k=int(head["k"]),
        filter=head["filter"],
        exclude=tuple(excluded[at : at + _ID_BYTES] for at in range(0, len(excluded), _ID_BYTES)),
        deadline=time.time() + head["left_s"],
        token=head["token"],
        strong=head["strong"],
        wait_s=head["wait_s"],
        generation=head.get("generation", ""),
        min_score=head.get("min_score"),
        facets=tuple(head.get("facets", ())),
        group=Group(*head["group"]) if "group" in head else None,
        sort=_sort(head.get("sort")),
        explain=head.get("explain", False),
        background=head.get("background", False),
    )


def answer_frame(number: int, answer: ShardAnswer) -> bytes:
    """An answer. Body: counts int64[q], versions int64[q, k], scores float32[q, k], ids uint8[q, k, 16]."""
    head = {
        "number": number,
        "shape": answer.scores.shape,
        "rows": answer.rows,
        "cpu_ms": answer.cpu_ms,
        "behind_s": answer.behind_s,
        "age_s": answer.age_s,
        "replica": answer.replica,
        "generation": answer.generation,
        "matches": answer.matches,
    }
    for name in ("keys", "facets", "plans", "full"):
        if told := getattr(answer, name):
            head[name] = told
    return frame(
        head,
        np.asarray(answer.counts, "<i8").tobytes(),
        np.asarray(answer.versions, "<i8").tobytes(),
        np.asarray(answer.scores, "<f4").tobytes(),
        answer.ids.tobytes(),
    )


def problem_frame(number: int, problem: ProblemError) -> bytes:
    """A problem in place of an answer."""
    document = {
        "type": problem.type.name,
        "detail": problem.detail,
        "retry_after_s": problem.retry_after_s,
        "extra": problem.extra,
    }
    return frame({"number": number, "problem": document})


def read_answer(head: Head, body: bytes) -> ShardAnswer | ProblemError:
    """The answer or the problem of a frame. Raises KeyError, TypeError or ValueError for a malformed one."""
    if "problem" in head:
        return _problem(head["problem"])
    queries, k = head["shape"]
    versions_at = queries * 8
    scores_at = versions_at + queries * k * 8
    ids_at = scores_at + queries * k * 4
    return ShardAnswer(
        ids=np.frombuffer(body[ids_at:], np.uint8).reshape(queries, k, _ID_BYTES),
        scores=np.frombuffer(body[scores_at:ids_at], "<f4").reshape(queries, k),
        counts=np.frombuffer(body[:versions_at], "<i8"),
        versions=np.frombuffer(body[versions_at:scores_at], "<i8").reshape(queries, k),
        rows=head["rows"],
        cpu_ms=head["cpu_ms"],
        behind_s=head["behind_s"],
        age_s=math.inf if head.get("age_s") is None else head["age_s"],
        replica=head["replica"],
        generation=head.get("generation", ""),
        matches=head.get("matches", 0),
        keys=[_value(key) for key in head.get("keys", ())],
        facets={
            name: [(value, count) for told, count in counts if (value := _value(told)) is not None]
            for name, counts in head.get("facets", {}).items()
        },
        plans=head.get("plans", []),
        full=head.get("full", False),
    )


def _problem(document: dict[str, Any]) -> ProblemError:
    return ProblemError(
        ProblemType[document["type"]],
        document["detail"],
        retry_after_s=document["retry_after_s"],
        extra=document["extra"],
    )


def link_key(service_secret: bytes) -> bytes:
    """The 32 bytes that gateways and shards of one service, and nobody else, know."""
    return hmac.digest(service_secret, b"shard link", hashlib.sha256)


def proof(
    key: bytes, role: Literal["gateway", "shard"], place: Place, address: str, nonces: tuple[bytes, bytes]
) -> bytes:
    """Shows that `role` knows the key and means this replica, for this connection alone.

    HMAC-SHA-256 over the role, the wire's version, what the replica holds, the address that was dialled, and the nonces
    of gateway and shard. A gateway that dials an old address and meets another shard there gets no further, and neither
    does one whose challenge somebody passes on to another address.
    """
    said = [role, VERSION, *astuple(place), address, *(nonce.hex() for nonce in nonces)]
    return hmac.digest(key, orjson.dumps(said), hashlib.sha256)
