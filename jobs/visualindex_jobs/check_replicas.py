"""Do replicas hold what the database says: digests of all buckets first, then the rows of those that differ."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np

from visualindex.ann.changes import normalised
from visualindex.ann.codes import encode
from visualindex.catalog import DIGESTS, ROWS, TrueRows
from visualindex.checking import BucketDigests, Finding, FindingKind
from visualindex.identity import buckets_of_shard
from visualindex_jobs.checked import Breather, Checked

_LOOK_S = 0.5
_LIVE = "live"
_SILENT_S = 10.0
"""How long a question is kept for a replica whose lease has ended."""
_UNSEEN_S = 60.0
"""How long a live replica may leave a question unseen: one of the release before never looks."""


@dataclass(frozen=True)
class _View:
    """One generation as one replica holds it."""

    replica: str
    shard: int
    shards: int
    generation: str
    fingerprint: str

    @property
    def buckets(self) -> range:
        return buckets_of_shard(self.shard, self.shards)

    @property
    def place(self) -> str:
        return f"shard {self.shard} of {self.shards}, replica {self.replica}, generation {self.generation}"


async def check_replicas(checked: Checked) -> None:
    """Compare every live replica, each generation it has loaded, with the database."""
    views = await _views(checked)
    checked.report.replicas = len(views)
    vectors = bool(checked.job.parameters.get("vectors", True))
    asked = {view: await _ask(checked, view, DIGESTS, {"vectors": vectors}) for view in views}
    true = {
        fingerprint: await _true_digests(checked, fingerprint, vectors)
        for fingerprint in sorted({view.fingerprint for view in views})
    }
    answers = await _answers(checked, "waiting for digests of replicas", asked)
    differing: dict[_View, list[int]] = {}
    for view, answer in answers.items():
        if "digests" in answer:
            held = BucketDigests.from_json({name: answer[name] for name in ("counts", "digests")})
            differing[view] = true[view.fingerprint].differing(held, view.buckets)
        else:
            _unanswered(checked, view, answer)
    await _compare_rows(checked, {view: buckets for view, buckets in differing.items() if buckets})


async def _views(checked: Checked) -> list[_View]:
    records = await checked.catalog.list_generations(checked.index)
    of = {record.generation: record.fingerprint or checked.fingerprint for record in records}
    of[_LIVE] = checked.fingerprint
    return [
        _View(
            load.replica,
            load.shard,
            load.shards or checked.resource.spec.index.shards,
            generation,
            of[generation],
        )
        for load in await checked.catalog.replica_loads(checked.index)
        for generation in sorted(load.generations & of.keys())
    ]


async def _ask(checked: Checked, view: _View, kind: str, parameters: Mapping[str, Any]) -> UUID:
    return await checked.catalog.ask_replica(
        checked.index, view.replica, view.generation, kind, parameters, checked.job.fence
    )


async def _true_digests(checked: Checked, fingerprint: str, vectors: bool) -> BucketDigests:
    """Of the database, from one pass over it."""
    made, breather = BucketDigests(), Breather()
    parts = checked.catalog.true_rows(checked.index, fingerprint, vectors=vectors)
    async with aclosing(cast("AsyncGenerator[TrueRows]", parts)) as read:
        async for part in read:
            checked.go_on("reading the database", made.rows, checked.report.images)
            await asyncio.to_thread(_add, made, part)
            await breather.rest()
    return made


def _add(made: BucketDigests, rows: TrueRows) -> None:
    codes = None
    if rows.vectors is not None:
        codes = encode(normalised(rows.vectors, rows.vectors.shape[1], "vectors"))
    made.add(rows.ids, rows.versions, np.asarray(rows.buckets), codes)


async def _compare_rows(checked: Checked, differing: Mapping[_View, Sequence[int]]) -> None:
    """A bucket that differs may only have been written to in between: the replica compares its rows, exactly."""
    checked.report.buckets_compared = sum(map(len, differing.values()))
    asked = {
        view: await _ask(checked, view, ROWS, {"buckets": list(buckets), "repair": checked.repair})
        for view, buckets in differing.items()
    }
    for view, answer in (await _answers(checked, "comparing rows in replicas", asked)).items():
        if "differences" in answer:
            _note(checked, view, answer)
        else:
            _unanswered(checked, view, answer)


def _note(checked: Checked, view: _View, answer: Mapping[str, Any]) -> None:
    for one in answer["differences"]:
        kind, count, mended = FindingKind(one["kind"]), one["count"], one["mended"]
        if mended == count:
            action = "read again from the database"
        elif answer["full"]:
            action = "the shard is full: raise spec.index.memoryPerShard, add shards or delete images"
        else:
            action = "" if checked.repair else "check again with repair"
        checked.report.findings.append(
            Finding(kind, view.place, count, mended, tuple(one["examples"]), action)
        )


def _unanswered(checked: Checked, view: _View, answer: Mapping[str, Any]) -> None:
    if answer.get("unloaded"):  # a generation that is served no more leaves at any moment
        return
    action = str(answer.get("problem") or "it did not answer: look at its log, and check again")
    checked.report.findings.append(Finding(FindingKind.NO_ANSWER, view.place, 1, action=action))


async def _answers(
    checked: Checked, phase: str, asked: Mapping[_View, UUID]
) -> dict[_View, Mapping[str, Any]]:
    """The answers; an empty one for a replica that does not answer."""
    answers: dict[_View, Mapping[str, Any]] = {}
    view_of = {question: view for view, question in asked.items()}
    since = dict.fromkeys(asked, time.monotonic())
    while waiting := asked.keys() - answers.keys():
        checked.go_on(phase, len(answers), len(asked))
        alive = {load.replica for load in await checked.catalog.replica_loads(checked.index)}
        now = time.monotonic()
        for one in await checked.catalog.questions([asked[view] for view in waiting]):
            view = view_of[one.question_id]
            if one.answer is not None:
                answers[view] = one.answer
            elif view.replica in alive and one.begun:
                since[view] = now
            elif now - since[view] > (_UNSEEN_S if view.replica in alive else _SILENT_S):
                answers[view] = {}
        if len(answers) < len(asked):
            await asyncio.sleep(_LOOK_S)
    return answers
