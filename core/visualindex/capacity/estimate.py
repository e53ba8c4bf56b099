"""Everything an index of so many images takes, in one value."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from visualindex.capacity import formulas
from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.capacity.fitting import fewest_shards, fit, misfit
from visualindex.capacity.formulas import Load, SegmentBytes
from visualindex.capacity.rebuilding import Rebuild, rebuild
from visualindex.capacity.wording import size
from visualindex.footprint import (
    encoder_memory,
    encoder_replicas,
    gateway_memory,
    gateway_replicas,
    gpus_of,
    postgres_connections,
    reranker_memory,
    reranker_replicas,
    shard_gpus,
    shard_memory,
    shard_replicas,
)
from visualindex.spec import Spec


@dataclass(frozen=True)
class Capacity:
    """What it takes. Bytes are bytes, times are seconds."""

    images: int
    dimension: int
    shards: int
    """As the spec has them."""
    fewest_shards: int | None
    """The smallest number that fits `memoryPerShard`; None: not even 1,024 do."""
    shard_replicas: int
    shard_images: int
    """Images of the largest shard."""
    family: str
    shard_bytes: int
    """What the largest shard needs of `memoryPerShard`, fresh images included."""
    memory_per_shard: int
    fresh_images: int
    """Fresh images per shard when a new generation is begun: they are counted in `shard_bytes`."""
    memory: int
    """Of the processes of all replicas: gateways, encoders, shards, rerankers."""
    gpus: float
    generation: SegmentBytes
    """Files of one generation."""
    keep_generations: int
    node_disk: int
    """Of a pod's cache volume: the generations of its shards, the next one, and what a build writes meanwhile."""
    cache_size: int
    scratch: int
    """The build's part of it."""
    builders: int
    """Shards that are built at once."""
    originals: int
    thumbnails: int
    build_s: float
    """Wall-clock time of a build: reading, and the CPU time of one thread for each builder."""
    build_memory: int
    """Largest memory of all builders."""
    encoder_gpu_s: float
    encoder_cpu_s: float
    ingest_s: float
    """Wall-clock time of writing all images on what the spec reserves."""
    postgres: int
    wal: int
    """Write-ahead log that writing all images makes."""
    postgres_connections: int
    rebuild: Rebuild
    """Making all vectors anew, with the workers of `spec.reindex`."""
    problems: tuple[str, ...]
    """What does not fit, each with what would."""

    @property
    def objects(self) -> int:
        """Bytes in the object store: originals, thumbnails and all kept generations."""
        return self.originals + self.thumbnails + self.keep_generations * self.generation.total

    def to_json(self) -> dict[str, Any]:
        """As a JSON document; bytes in `objects` and `generation.total` are sums of others."""
        document = dataclasses.asdict(self)
        document["generation"]["total"] = self.generation.total
        return {**document, "objects": self.objects, "fits": not self.problems}


def capacity(spec: Spec, load: Load, measured: Coefficients = DEFAULTS) -> Capacity:
    """What `spec` takes for `load`."""
    found = fit(spec, load.images, measured)
    generation = formulas.segment_bytes(spec, found.family, load.images, measured)
    builders = formulas.builders_of(spec)
    scratch = builders * formulas.scratch_bytes(spec, found.family, found.rows, measured)
    disk = _node_disk(spec, generation.total, found.rows / load.images) + scratch
    build_cpu = formulas.build_cpu_s(spec, found.family, found.rows, measured) * load.images / found.rows
    return Capacity(
        images=load.images,
        dimension=spec.encoder.dimension,
        shards=spec.index.shards,
        fewest_shards=fewest_shards(spec, load.images, measured),
        shard_replicas=shard_replicas(spec),
        shard_images=found.rows,
        family=found.spec_family,
        shard_bytes=found.needed,
        memory_per_shard=spec.index.memory_per_shard,
        fresh_images=formulas.fresh_rows(spec.index, found.rows),
        memory=process_memory(spec),
        gpus=gpus_of(spec) + shard_gpus(spec),
        generation=generation,
        keep_generations=spec.index.keep_generations,
        node_disk=disk,
        cache_size=spec.ray.cache.size,
        scratch=scratch,
        builders=builders,
        originals=formulas.original_bytes(load),
        thumbnails=formulas.thumbnail_bytes(spec, load, measured),
        build_s=formulas.read_s(load.images, measured) + build_cpu / builders,
        build_memory=builders * formulas.build_memory(spec, found.family, found.rows, measured),
        encoder_gpu_s=formulas.encoder_gpu_s(spec, load.images, measured),
        encoder_cpu_s=formulas.encoder_cpu_s(spec, load.images, measured),
        ingest_s=formulas.ingest_s(spec, load.images, measured),
        postgres=formulas.postgres_bytes(spec, load.images, measured),
        wal=formulas.wal_bytes(spec, load.images, measured),
        postgres_connections=postgres_connections(spec) + formulas.BUILD_CONNECTIONS,
        rebuild=rebuild(spec, load.images, measured),
        problems=tuple(_problems(spec, load, measured, disk)),
    )


def process_memory(spec: Spec) -> int:
    """Sum over gateways, shards, encoders and rerankers of replicas x what one may take."""
    return (
        gateway_replicas(spec) * gateway_memory(spec)
        + shard_replicas(spec) * shard_memory(spec)
        + encoder_replicas(spec) * encoder_memory(spec)
        + reranker_replicas(spec) * reranker_memory(spec)
    )


def _node_disk(spec: Spec, generation: int, share_of_shard: float) -> int:
    """generation x share of the shards on a pod x (keepGenerations + 1): the kept ones, and the next while it is loaded.

    A worker holds one replica of every shard, under `layout: ByRole` one shard.
    """
    share = min(1.0, share_of_shard) if spec.ray.workers.layout == "ByRole" else 1.0
    return math.ceil(generation * share * (spec.index.keep_generations + 1))


def _problems(spec: Spec, load: Load, measured: Coefficients, disk: int) -> list[str]:
    memory = misfit(spec, load.images, measured)
    problems = [] if memory is None else [memory]
    if disk > spec.ray.cache.size:
        problems.append(_too_small_a_cache(spec, disk))
    return problems


def _too_small_a_cache(spec: Spec, disk: int) -> str:
    by_role = spec.ray.workers.layout == "ByRole"
    return (
        f"ray.cache.size: {size(spec.ray.cache.size)} would have to hold {size(disk)}, the generations of a pod's shards "
        f"and the files of a build: set it to {math.ceil(disk / 1024**3)}Gi"
        + ("" if by_role else ", or set ray.workers.layout to ByRole, where a pod holds one shard")
    )
