"""One replica of one shard: holds every generation that may be searched, tells the catalog, and answers searches."""

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from visualindex.ann import Ask, Base, Grouping, Looked, ShardIndex, Sorting
from visualindex.catalog import FEWER, Catalog, GenerationRecord, LogTrimmed
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import buckets_of_shard
from visualindex.spec import VisualIndex
from visualindex_serving.accepted_filters import reread
from visualindex_serving.check_answers import CheckAnswers
from visualindex_serving.deadlines import exceeded, remaining
from visualindex_serving.ending import ended
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.giving_back import give_back
from visualindex_serving.live_recall import LiveRecall
from visualindex_serving.lowest_priority import yield_to_others
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.metrics import ShardMetrics
from visualindex_serving.one_load import OneLoad
from visualindex_serving.pace import Kind
from visualindex_serving.shard_view import LIVE, ShardView

logger = logging.getLogger(__name__)

_LEASE_S = 30.0
_HEARTBEAT_S = 5.0
_LOOK_S = 0.5
_SEARCH_THREADS = 2
_RENEW_S = 10.0
_LOAD_AGAIN_S = 5.0
_FEW_HITS = 100
_SOON = ("active", "preparing")
"""States of what is searched, or is to be: what is kept for a rollback can wait."""
_LINGER_S = 5.0
"""A gateway may ask for a generation a moment after it was retired."""

Loads = Mapping[str, Callable[[], Awaitable[None]]]
"""What is to be loaded, the most urgent first, and how."""


class ShardReplica:
    """The state and the tasks of one replica. `open` returns once the active generation holds all its position covers."""

    def __init__(
        self,
        resource: VisualIndex,
        shard: int,
        catalog: Catalog,
        *,
        address: str | None = None,
        files: GenerationFiles | None = None,
    ) -> None:
        """Gateways find the replica at `address`, `host:port`, once it has loaded. `files` fetches generations."""
        spec = resource.spec
        self._resource = resource
        self._shard = shard
        self._shards = spec.index.shards
        self._buckets = buckets_of_shard(shard, spec.index.shards)
        self._name = uuid.uuid4().hex[:12]
        self._catalog = catalog
        self._address = address
        self._files = files
        self._views: dict[str, ShardView] = {}
        self._active = LIVE
        self._opening: ShardView | None = None
        self._loading = OneLoad()
        self._problems: dict[str, str] = {}
        self._told: str | None = None
        self._failed_at: dict[str, float] = {}
        self._stand_ins: set[str] = set()
        self._unwanted_since: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")
        self._quiet = ThreadPoolExecutor(1, thread_name_prefix="quiet", initializer=yield_to_others)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="apply")
        self._metrics = ShardMetrics(resource.name, shard, self._name)
        self._live_recall = LiveRecall(spec.index.live_recall_sample)
        self._answers = CheckAnswers(catalog, resource.name, self._name, self._views)
        self._leased_at = -math.inf
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Load the active generation, register the lease, follow."""
        try:
            await self._open_active()
        except BaseException:
            await self._end()
            raise
        await self._lease()
        self._tasks = [
            asyncio.create_task(self._tend(), name="tend"),
            asyncio.create_task(self._heartbeat(), name="heartbeat"),
            asyncio.create_task(self._answers.run(), name="answer checks"),
        ]

    async def close(self) -> None:
        """Stop following and give the lease back, so that nothing waits for this replica."""
        await ended(self._tasks)
        try:
            await self._catalog.release(self._resource.name, self._shard, self._name)
        except ProblemError as exc:
            logger.info("the lease of %s runs out by itself: %s", self._name, exc)
        await self._end()

    async def _end(self) -> None:
        await self._loading.stop()
        await asyncio.gather(*(view.close() for view in self._views.values()))
        if self._files is not None:
            for name in self._views:
                self._files.close(name)
        for threads in (self._threads, self._quiet, self._writer):
            threads.shutdown(wait=False)
        self._live_recall.close()

    @property
    def name(self) -> str:
        """What its lease and its answers call it."""
        return self._name

    @property
    def full(self) -> bool:
        """Whether images of this shard are missing here because they do not fit into `index.memoryPerShard`."""
        return any(view.full for view in self._views.values())

    @property
    def generations(self) -> list[str]:
        """What it has loaded, the generation that is active as far as it knows first."""
        return sorted(self._views, key=lambda name: (name != self._active, name))

    def check(self) -> None:
        """Raise RuntimeError when a part of the replica has stopped."""
        dead = [task.get_name() for task in self._tasks if task.done()]
        if dead:
            raise RuntimeError(f"shard {self._shard}: {', '.join(dead)} stopped")

    async def _open_active(self) -> None:
        active = _active(await self._catalog.loaded_generations(self._resource.name))
        self._active = _name_of(active)
        await self._load_active(active)

    async def _load_active(self, active: GenerationRecord | None) -> None:
        """Whatever becomes of the files, the shard has to answer: the catalog's rows stand in for them."""
        try:
            await self._load(_name_of(active), active)
        except Exception as problem:
            held = None if active is None else self._views.get(active.generation)
            if active is None or (held is not None and held.following):  # they stand in for it already
                raise
            self._note_problem(active.generation, problem)
            logger.error("generation %s is served from the catalog's rows instead", active.generation)
            await self._load(active.generation, None)
            self._stand_ins.add(active.generation)
            self._failed_at[active.generation] = time.monotonic()

    async def _load(self, name: str, record: GenerationRecord | None) -> None:
        view = self._view(name, record, await self._space(record))
        self._opening = view
        try:
            await view.open(self._keep_place)
        except BaseException:
            await view.close()
            if self._files is not None:
                self._files.close(name)
            raise
        finally:
            self._opening = None
        previous = self._views.get(name)
        self._views[name] = view
        if previous is not None:
            await previous.close()

    async def _space(self, record: GenerationRecord | None) -> tuple[str, int]:
        """The encoder of a generation's vectors and their dimension; without one those that the index is searched with."""
        if record is not None and record.fingerprint:
            return record.fingerprint, int(record.manifest["dimension"])
        index = await self._catalog.get_index(self._resource.name)
        if index is None:
            raise not_registered(self._resource.name)
        return index.fingerprint, index.dimension

    def _view(self, name: str, record: GenerationRecord | None, space: tuple[str, int]) -> ShardView:
        fingerprint, dimension = space
        buckets = self._buckets
        return ShardView(
            name,
            self._catalog.follow(self._resource.name, fingerprint, buckets, dimension=dimension),
            partial(self._index, dimension),
            self._writer,
            watermark=None if record is None else record.watermark,
            open_bases=None if record is None else partial(self._bases, record),
            poll_s=self._resource.spec.index.poll_interval_ms / 1000,
            seen_after_ms=self._metrics.freshness.observe,
        )

    def _index(self, dimension: int, bases: Sequence[Base]) -> ShardIndex:
        spec = self._resource.spec
        return ShardIndex(
            dimension,
            flat_below=spec.index.flat_below,
            hnsw=spec.index.hnsw,
            memory_limit=spec.index.memory_per_shard,
            bases=bases,
        )

    async def _bases(self, record: GenerationRecord) -> Sequence[Base]:
        if self._files is None:
            detail = f"generation {record.generation} cannot be fetched: this replica has no object store"
            raise ProblemError(ProblemType.UNAVAILABLE, detail)
        segments = await self._files.open(record, self._buckets)
        return [Base.of(segment, self._buckets) for segment in segments]

    async def _keep_place(self) -> None:
        """While the first generation loads, the lease keeps the log from being trimmed past it."""
        if not self._views and time.monotonic() - self._leased_at >= _RENEW_S:
            await self._lease(loading=True)

    async def _tend(self) -> None:
        """Load what may be searched soon, and let go of what will not be again. Nothing ends it: searches go on."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look_after()
            except ProblemError as exc:
                logger.warning("the generations of the index cannot be read: %s", exc)
            except Exception:
                logger.exception("shard %d will look after its generations again", self._shard)

    async def _look_after(self) -> None:
        wanted = await self._catalog.loaded_generations(self._resource.name)
        active = _active(wanted)
        self._active = _name_of(active)
        await self._follow_index()
        await self._note_stopped()
        # A database that was restored may know none of those that are loaded here.
        loads = {self._active: partial(self._load_active, active)}
        for record in wanted:
            loads.setdefault(record.generation, partial(self._load, record.generation, record))
        await self._load_next(loads, {record.generation for record in wanted if record.state in _SOON})
        names = {record.generation for record in wanted}
        await self._forget_problems({self._active, *names})
        await self._let_go(names)
        if self._told_problems() != self._told:
            await self._lease()

    async def _note_stopped(self) -> None:
        """What no longer follows the catalog is loaded anew; until then only the active one answers, as it was."""
        for name, view in list(self._views.items()):
            if view.stopped is None or name in self._stand_ins:
                continue
            self._note_problem(name, view.stopped)
            self._failed_at[name] = time.monotonic()
            if name == self._active:
                self._stand_ins.add(name)
            else:
                del self._views[name]
                await self._shut(name, view)
            await self._lease()

    async def _follow_index(self) -> None:
        """Without a generation an empty index takes another encoder at once: its rows are those of that one from then on.

        Until they are loaded those of before stand in for them.
        """
        view = self._views.get(LIVE)
        if self._active == LIVE and view is not None:
            fingerprint, _ = await self._space(None)
            if view.fingerprint != fingerprint:
                self._stand_ins.add(LIVE)

    async def _load_next(self, loads: Loads, urgent: Collection[str]) -> None:
        """Begin with what is due, one at a time. What is not wanted any more is broken off, and so is what is only kept for
        a rollback when something urgent comes up."""
        due = [name for name in loads if self._is_due(name)]
        under_way = self._loading.name
        if under_way is not None:
            comes_up = any(name in urgent and name not in self._failed_at for name in due)
            if under_way in loads and (under_way in urgent or not comes_up):
                return
            await self._loading.stop()
        if due:
            self._loading.begin(due[0], partial(self._attend, due[0], loads[due[0]]))

    def _is_due(self, name: str) -> bool:
        if name in self._views and name not in self._stand_ins:
            return False
        return time.monotonic() - self._failed_at.get(name, -math.inf) >= _LOAD_AGAIN_S

    async def _attend(self, name: str, load: Callable[[], Awaitable[None]]) -> None:
        failed_at = self._failed_at.get(name)
        if name not in self._stand_ins:  # else the problem lasts, however often it is tried
            self._problems.pop(name, None)
        try:
            await load()
        except Exception as problem:
            self._failed_at[name] = time.monotonic()
            self._note_problem(name, problem)
        else:
            if self._failed_at.get(name) == failed_at:  # and nothing stands in for it
                self._stand_ins.discard(name)
                self._problems.pop(name, None)
        await self._lease()

    async def _forget_problems(self, wanted: set[str]) -> None:
        """What nobody wants any more is tried anew when it is wanted again."""
        old = self._problems.keys() - wanted
        for name in old:
            del self._problems[name]
            self._failed_at.pop(name, None)
        if old:
            await self._lease()

    def _note_problem(self, generation: str, problem: BaseException) -> None:
        told = isinstance(problem, ProblemError)
        why = problem.detail if isinstance(problem, ProblemError) else f"{type(problem).__name__}: {problem}"
        self._problems[generation] = " ".join(why.split())
        about = self._shard, generation, why
        logger.error("shard %d cannot hold generation %s: %s", *about, exc_info=None if told else problem)

    async def _let_go(self, wanted: set[str]) -> None:
        """Close what is no longer wanted, once gateways have had the time to learn of it."""
        now = time.monotonic()
        if self._active not in self._views:
            return
        for name in list(self._views):
            if name in wanted or name == self._active:
                self._unwanted_since.pop(name, None)
                continue
            if now - self._unwanted_since.setdefault(name, now) < _LINGER_S:
                continue
            del self._unwanted_since[name]
            await self._shut(name, self._views.pop(name))
            await self._lease()
            await asyncio.to_thread(give_back)

    async def _shut(self, name: str, view: ShardView) -> None:
        await view.close()
        if self._files is not None:
            self._files.close(name)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            view = self._views[self._active] if self._active in self._views else self._any()
            self._metrics.rows.set(len(view.index))
            self._metrics.memory.set(sum(one.index.memory_bytes for one in self._views.values()))
            self._metrics.lag.set((time.time() - view.polled_at) * 1000)
            self._metrics.full.set(float(self.full))
            recall, _ = self._live_recall.figures(view.generation)
            self._metrics.live_recall.set(-1.0 if recall is None else recall)
            await self._lease()

    def _any(self) -> ShardView:
        return next(iter(self._views.values()))

    async def _lease(self, *, loading: bool = False) -> bool:
        """Renew the lease, so that the log is not trimmed past this replica; True when it could be renewed."""
        view = self._opening if loading else self._views.get(self._active) or self._any()
        assert view is not None  # noqa: S101 - it loads one, or has loaded one
        recall, samples = self._live_recall.figures(view.generation)
        problem = self._told_problems()
        with contextlib.suppress(RuntimeError):  # the load has not taken its position yet
            try:
                await self._catalog.heartbeat(
                    self._resource.name,
                    self._shard,
                    self._name,
                    view.position,
                    len(view.index),
                    _LEASE_S,
                    loading=loading,
                    address=self._address,
                    shards=self._shards,
                    generations=self._views.keys(),
                    fresh_rows=view.index.fresh,
                    problem=problem,
                    recall=recall,
                    recall_samples=samples,
                )
            except (ProblemError, LogTrimmed) as exc:
                logger.warning("shard %d cannot renew its lease: %s", self._shard, exc)
                return False
            self._leased_at = time.monotonic()
            self._told = problem
            return True
        return False

    def _told_problems(self) -> str | None:
        """A line for each generation that cannot be loaded, or not be loaded again, or is short of images."""
        again = {name: view.problem for name, view in self._views.items() if view.problem is not None}
        told = {**self._short(), **again, **self._problems}
        return "\n".join(f"{name}: {why}" for name, why in told.items()) or None

    def _short(self) -> dict[str, str]:
        """Why generations that are loaded would find fewer images than the active one."""
        active = self._views.get(self._active)
        if active is None:
            return {}
        return {name: why for name, view in self._views.items() if (why := _fewer(view, active))}

    async def search(self, query: ShardQuery) -> ShardAnswer:
        """Answer a batch of searches, after catching up if asked to.

        Raises ProblemError DEADLINE_EXCEEDED, or CONFLICT when it does not have the query's generation.
        """
        view = self._asked_for(query.generation)
        self._check_space(view, query)
        if not await view.caught_up(query):
            return self._behind(view, query)
        if remaining(query.deadline) <= 0:
            raise exceeded(f"waiting in shard {self._shard}")
        kind = None if query.background else _kind(query)
        if kind is not None and view.paces[kind].quick:
            return self._search(view, query)
        threads = self._quiet if query.background else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, self._search_in_time, view, query)

    def tell_news(self) -> None:
        """Something was written: the generation that is searched looks into the change log now."""
        view = self._views.get(self._active)
        if view is not None:
            view.look_now()

    def _asked_for(self, generation: str) -> ShardView:
        view = self._views.get(generation or self._active)
        if view is None:
            detail = f"Shard {self._shard} does not have generation {generation} loaded."
            raise ProblemError(ProblemType.CONFLICT, detail, extra={"active": self._active})
        return view

    def _search_in_time(self, view: ShardView, query: ShardQuery) -> ShardAnswer:
        """In a thread, which may have become free too late: nobody waits for the answer any more then."""
        if remaining(query.deadline) <= 0:
            raise exceeded(f"waiting for a thread of shard {self._shard}")
        return (self._repeated if query.background else self._search)(view, query)

    def _check_space(self, view: ShardView, query: ShardQuery) -> None:
        """A vector of another length is of another encoder: the gateway has not heard yet what is active here."""
        given = query.vectors.shape[1]
        if given != view.index.dimension:
            detail = f"Generation {view.generation} has {view.index.dimension} dimensions, the query {given}."
            raise ProblemError(ProblemType.CONFLICT, detail)

    def _search(self, view: ShardView, query: ShardQuery) -> ShardAnswer:
        start, began = time.thread_time(), time.perf_counter()
        snapshot, ask = view.index.snapshot(), _ask(query)
        looked = snapshot.look(query.vectors, ask)
        self._live_recall.offer(view.generation, snapshot, query.vectors, ask, looked)
        if (kind := _kind(query)) is not None:
            view.paces[kind].took((time.perf_counter() - began) * 1000)
        return self._answer(view, query, looked, start)

    def _repeated(self, view: ShardView, query: ShardQuery) -> ShardAnswer:
        """A search that nobody waits for: neither live recall nor the pace of searches takes notice of it."""
        start = time.thread_time()
        return self._answer(view, query, view.index.snapshot().look(query.vectors, _ask(query)), start)

    def _answer(self, view: ShardView, query: ShardQuery, looked: Looked, start: float) -> ShardAnswer:
        hits = looked.hits
        return ShardAnswer(
            hits.ids,
            hits.scores,
            hits.counts,
            hits.versions,
            len(view.index),
            (time.thread_time() - start) * 1000,
            age_s=time.time() - view.polled_at,
            replica=self._name,
            generation=view.generation,
            matches=looked.matches,
            keys=list(looked.keys),
            facets={name: list(counts.items()) for name, counts in looked.facets.items()},
            plans=[
                {
                    "part": plan.part,
                    "way": plan.way.value,
                    "rows": plan.rows,
                    "estimated": list(plan.estimated),
                    "matches": plan.matches,
                }
                for plan in looked.plans
                if query.explain
            ],
            full=view.full,
        )

    def _behind(self, view: ShardView, query: ShardQuery) -> ShardAnswer:
        q = len(query.vectors)
        return ShardAnswer(
            np.zeros((q, 0, 16), np.uint8),
            np.zeros((q, 0), np.float32),
            np.zeros(q, np.int64),
            np.zeros((q, 0), np.int64),
            len(view.index),
            0.0,
            behind_s=time.time() - view.polled_at,
            replica=self._name,
            generation=view.generation,
        )


def _fewer(view: ShardView, active: ShardView) -> str | None:
    """Why a generation would find fewer images than the active one; None where it would not."""
    missing = len(active.index) - len(view.index)
    if not view.full or missing <= 0:
        return None
    index = view.index
    needed = index.memory_bytes + math.ceil(missing * index.fresh_bytes / max(1, index.fresh))
    return (
        f"{FEWER} than the active one, {missing} of {len(active.index)}, which do not fit beside what was written since it "
        f"was built: about {needed} bytes are needed; raise spec.index.memoryPerShard, add shards, or activate it by force"
    )


def _name_of(active: GenerationRecord | None) -> str:
    return LIVE if active is None else active.generation


def _active(records: Sequence[GenerationRecord]) -> GenerationRecord | None:
    return next((record for record in records if record.state == "active"), None)


def _kind(query: ShardQuery) -> Kind | None:
    """The kind whose pace is measured, of one vector, few hits, no counts and no other order; None for all others."""
    if len(query.vectors) > 1 or query.k > _FEW_HITS or query.facets or query.group or query.sort:
        return None
    return "filtered" if query.filter else "plain"


def _ask(query: ShardQuery) -> Ask:
    """The query as the index takes it."""
    tree = None if query.filter is None else reread(query.filter)
    group = None if query.group is None else Grouping(query.group.field, query.group.size)
    sort = None
    if query.sort is not None:
        sort = Sorting(query.sort.field, query.sort.direction, query.sort.after, query.sort.times)
    return Ask(query.k, tree, query.exclude, query.min_score, query.facets, group, sort)


def not_registered(index: str) -> ProblemError:
    """The problem of an index whose encoder has not registered itself in time."""
    return ProblemError(
        ProblemType.UNAVAILABLE,
        f"Index {index} is not registered in the catalog yet: its gateway or encoder has not started.",
        retry_after_s=1,
    )
