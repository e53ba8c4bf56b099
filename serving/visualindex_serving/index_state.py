"""How an index is doing, as callers see it: its size, the generation it serves, its recall and its replicas."""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from visualindex.api.images import (
    DomainView,
    EncoderView,
    IndexView,
    LiveRecallView,
    MigrationView,
    RecallView,
    ReplicaView,
)
from visualindex.catalog import REINDEX, EncoderRecord, GenerationRecord, ReplicaLoad
from visualindex.planning.encoder_phase import Candidate, progress
from visualindex.spec.served_encoder import encoder_settings, named
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.index_service import IndexService
from visualindex_serving.reranking import NO_RERANKING, Reranking
from visualindex_serving.shard_view import LIVE

T = TypeVar("T")


async def index_view(index: IndexService, *, curves: bool) -> IndexView:
    """All of it, with the measured recall curves of the generation if they are wanted."""
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)

    async def asked(what: str, asking: Awaitable[T]) -> T:
        return await within(deadline, what, asking)

    index = index.pinned()
    active = index.searched.generation
    record = None
    if active != LIVE:
        record = await asked("reading the generation", index.catalog.get_generation(index.name, active))
    loads = await asked("reading the index's replicas", index.catalog.replica_loads(index.name))
    encoders = await asked("reading the encoders", index.catalog.index_encoders(index.name))
    spec = index.resource.spec
    return IndexView(
        name=index.name,
        encoder=named(next((one.settings for one in encoders if one.searched), encoder_settings(spec))),
        fingerprint=index.fingerprint,
        dimension=index.dimension,
        images=await asked("counting images", index.catalog.count_images(index.name)),
        shards=spec.index.shards,
        generation=active,
        families=[] if record is None else record.manifest["parameters"].get("families", []),
        recall=None if record is None else _measured(record, curves),
        live_recall=_live(loads),
        replicas=[_replica(load) for load in loads],
        rerank=_reranking(index).view(
            await asked("reading the index's state", index.catalog.rerank_profile(index.name))
        ),
        domains=[
            DomainView(
                name=domain.name,
                filter=domain.filter,
                attributes=list(domain.attributes),
                min_score=domain.min_score,
                limit=domain.limit,
            )
            for domain in spec.domains
        ],
        encoders=[_encoder(one) for one in encoders],
        rolled_back_at=await asked("reading the generation", index.catalog.rolled_back_at(index.name)),
        migration=await asked("reading the migration", _migration(index, encoders)),
    )


def _encoder(one: EncoderRecord) -> EncoderView:
    return EncoderView(
        fingerprint=one.fingerprint,
        dimension=one.dimension,
        encoder=named(one.settings),
        state=one.state,
        searched=one.searched,
        named=one.named,
        complete=one.complete,
        generations=list(one.generations),
        held_by=one.held_by,
        gateways=one.gateways,
        problem=one.problem,
    )


async def _migration(index: IndexService, encoders: Sequence[EncoderRecord]) -> MigrationView | None:
    """How far the index is on its way to the encoder of the spec that came last."""
    of_specs = [one for one in encoders if one.named]
    if not of_specs or of_specs[-1].searched:
        return None
    wanted = of_specs[-1]
    records = await index.catalog.list_generations(index.name)
    candidates = [Candidate(one.generation, one.state, one.problem or "") for one in records]
    jobs = await index.catalog.list_jobs(index.name, limit=10)
    rebuilding = any(one.kind == REINDEX and one.ended_at is None for one in jobs)
    told = progress(index.name, wanted, candidates, rebuilding=rebuilding)
    return MigrationView(phase=told.phase, message=told.message, encoder=wanted.fingerprint)


def _reranking(index: IndexService) -> Reranking:
    """Of the encoder that searches use; a gateway that has not loaded it yet tells of none."""
    held = [one for one in index.encoders.held if one.fingerprint == index.fingerprint]
    return held[0].reranking if held else NO_RERANKING


def _replica(load: ReplicaLoad) -> ReplicaView:
    return ReplicaView(
        shard=load.shard,
        replica=load.replica,
        rows=load.rows,
        seen_at=load.seen_at,
        shards=load.shards,
        generations=sorted(load.generations),
        fresh=load.fresh,
        live_recall=load.recall,
        live_recall_samples=load.recall_samples,
    )


def _measured(record: GenerationRecord, curves: bool) -> RecallView | None:
    recall = record.manifest.get("recall", {})
    if "recall" not in recall:
        return None
    return RecallView(
        recall=recall["recall"],
        target=recall["target"],
        met=recall["met"],
        curves=recall.get("shards", []) if curves else [],
    )


def _live(loads: Sequence[ReplicaLoad]) -> LiveRecallView | None:
    """The mean over all samples: each shard's share of the true hits of its own rows counts alike."""
    sampled = [(load.recall, load.recall_samples) for load in loads if load.recall is not None]
    samples = sum(count for _, count in sampled)
    if not samples:
        return None
    return LiveRecallView(recall=sum(recall * count for recall, count in sampled) / samples, samples=samples)
