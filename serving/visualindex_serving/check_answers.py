"""A replica's answers to a check: the digest of each bucket it holds, and a comparison of buckets with the catalog.

They are made beside searches, in small steps with pauses as long as the steps were.
"""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from visualindex.ann import Snapshot, decode
from visualindex.ann.changes import normalised
from visualindex.ann.codes import encode
from visualindex.catalog import DIGESTS, ROWS, Catalog, Question, TrueRows
from visualindex.checking import BucketDigests, Difference, Held, Sides, compared
from visualindex.checking.findings import EXAMPLES
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import BUCKETS
from visualindex_serving.shard_view import ShardView

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_BUCKETS = 8
"""Buckets that are compared at once: a small part of a shard, so that memory and pauses stay small."""
_REACH_S = 30.0


class CheckAnswers:
    """Looks for questions to one replica and answers them, one after another."""

    def __init__(self, catalog: Catalog, index: str, replica: str, views: Mapping[str, ShardView]) -> None:
        """`views` are what the replica holds, by generation, as it changes."""
        self._catalog = catalog
        self._index = index
        self._replica = replica
        self._views = views

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for question in await self._catalog.take_questions(self._index, self._replica):
                    await self._catalog.answer_question(question.question_id, await self._answer(question))
            except ProblemError as problem:
                logger.warning("questions of a check wait: %s", problem.detail)
            except Exception:
                logger.exception("questions of a check wait")

    async def _answer(self, question: Question) -> dict[str, Any]:
        view = self._views.get(question.generation)
        if view is None:
            return {"unloaded": True}  # it was when the question was asked
        try:
            if question.kind == DIGESTS:
                vectors = bool(question.parameters["vectors"])
                made = await asyncio.to_thread(_digests, view.index.snapshot(), vectors)
                return made.to_json()
            if question.kind == ROWS:
                repair = bool(question.parameters["repair"])
                return await Comparison(self._catalog, self._index, view, repair).of(
                    question.parameters["buckets"]
                )
        except ProblemError as problem:
            return {"problem": problem.detail}
        except Exception as error:
            logger.exception("a question of a check cannot be answered")
            return {"problem": f"{type(error).__name__}: {error}"}
        return {"problem": f"this release knows no question of kind {question.kind}"}


def _digests(snapshot: Snapshot, vectors: bool) -> BucketDigests:
    made = BucketDigests()
    began = time.perf_counter()
    for rows in snapshot.held():
        made.add(rows.ids, rows.versions, rows.buckets, rows.codes if vectors else None)
        time.sleep(time.perf_counter() - began)
        began = time.perf_counter()
    return made


class Comparison:
    """Compares buckets of a view with the catalog row by row, and mends the view where it is asked to."""

    def __init__(self, catalog: Catalog, index: str, view: ShardView, repair: bool) -> None:
        self._catalog = catalog
        self._index = index
        self._view = view
        self._repair = repair
        self._found: Counter[str] = Counter()
        self._mended: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    async def of(self, buckets: Sequence[int]) -> dict[str, Any]:
        """How many differences of each kind there are, how many were mended, and examples."""
        for start in range(0, len(buckets), _BUCKETS):
            began = time.perf_counter()
            await self._compare(buckets[start : start + _BUCKETS])
            await asyncio.sleep(time.perf_counter() - began)
        differences = [
            {"kind": kind, "count": count, "mended": self._mended[kind], "examples": self._examples[kind]}
            for kind, count in self._found.items()
        ]
        return {"differences": differences, "full": self._view.full}

    async def _compare(self, buckets: Sequence[int]) -> None:
        suspected = compared(await self._look(buckets=buckets))
        if not suspected:
            return
        differing = suspected & compared(await self._look(image_ids={one.image_id for one in suspected}))
        self._note(differing)
        if differing and self._repair:
            ids = {one.image_id for one in differing}
            await self._view.mend([uuid.UUID(bytes=image_id) for image_id in ids])
            left = {one.image_id for one in compared(await self._look(image_ids=ids))}
            self._mended.update(one.kind.value for one in differing if one.image_id not in left)

    def _note(self, differing: Collection[Difference]) -> None:
        for one in sorted(differing, key=lambda one: one.image_id):
            self._found[one.kind.value] += 1
            examples = self._examples.setdefault(one.kind.value, [])
            if len(examples) < EXAMPLES:
                examples.append(str(uuid.UUID(bytes=one.image_id)))

    async def _look(self, *, buckets: Collection[int] = (), image_ids: Collection[bytes] = ()) -> Sides:
        """The truth first, then the view, once it has applied all that the truth held."""
        view = self._view
        position, truth = await self._catalog.true_rows_of(
            self._index, view.fingerprint, buckets=buckets, image_ids=image_ids
        )
        if not await view.reached(position, _REACH_S):
            detail = f"generation {view.generation} is more than {_REACH_S:g} s behind: check again later"
            raise ProblemError(ProblemType.UNAVAILABLE, detail)
        return await asyncio.to_thread(_sides, truth, view.index.snapshot(), buckets, image_ids)


def _sides(
    truth: TrueRows, snapshot: Snapshot, buckets: Collection[int], image_ids: Collection[bytes]
) -> Sides:
    chosen = np.zeros(BUCKETS, np.bool_)
    chosen[[*buckets]] = True
    wanted = _wanted(truth, snapshot.dimension)
    held: dict[bytes, Held] = {}
    for rows in snapshot.held(chosen if buckets else None):
        for place, key in enumerate(_keys(rows.ids)):
            if buckets or key in image_ids:
                held[key] = Held(int(rows.versions[place]), decode(rows.codes[place : place + 1])[0])
    return wanted, held


def _wanted(truth: TrueRows, dimension: int) -> dict[bytes, Held]:
    assert truth.vectors is not None  # noqa: S101 - they were asked for
    if not len(truth):
        return {}
    vectors = decode(encode(normalised(truth.vectors, dimension, "vectors")))
    return {
        key: Held(int(version), vector)
        for key, version, vector in zip(_keys(truth.ids), truth.versions, vectors, strict=True)
    }


def _keys(ids: np.typing.NDArray[np.uint8]) -> list[bytes]:
    packed = np.ascontiguousarray(ids).tobytes()
    return [packed[at : at + 16] for at in range(0, len(packed), 16)]
