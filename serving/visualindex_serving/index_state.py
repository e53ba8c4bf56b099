"""How an index is doing, as callers see it: its size, the generation it serves, its recall and its replicas."""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from visualindex.api.images import DomainView, IndexView, LiveRecallView, RecallView, ReplicaView
from visualindex.catalog import GenerationRecord, ReplicaLoad
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.index_service import IndexService
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
    spec = index.resource.spec
    encoder = spec.encoder
    return IndexView(
        name=index.name,
        encoder=encoder.family if encoder.model is None else f"{encoder.family}/{encoder.model}",
        fingerprint=index.fingerprint,
        dimension=index.dimension,
        images=await asked("counting images", index.catalog.count_images(index.name)),
        shards=spec.index.shards,
        generation=active,
        families=[] if record is None else record.manifest["parameters"].get("families", []),
        recall=None if record is None else _measured(record, curves),
        live_recall=_live(loads),
        replicas=[_replica(load) for load in loads],
        rerank=index.reranking.view(
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
    )


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
