"""What an index takes of a cluster: logical CPUs, GPUs, memory and database connections, from its spec alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from visualindex.spec import EncoderSpec, Spec, VisualIndex

GATEWAY_CPUS = 0.5
"""Logical CPUs a gateway replica reserves."""
GENERATIONS_SHARE = 0.6
SHARD_CPUS = 0.25
"""Logical CPUs a shard replica reserves."""
ENCODER_CPUS = 0.5
"""Logical CPUs a replica of an encoder deployment reserves."""
RERANKER_CPUS = 0.25
"""Logical CPUs a replica of a reranker reserves."""
FRESH_SHARE = 0.25
"""Share of `memoryPerShard` that a generation which is loaded beside the active one is given, for the rows written since it
was built and their graph. Its files stay mapped: the kernel may drop their pages."""
_MIB = 1024**2
GATEWAY_BYTES = 256 * _MIB
"""A gateway's process without encoder and pictures: 190 MiB resident under Ray, the rest is for requests."""
SHARD_BYTES = 256 * _MIB
"""A shard's process without vectors: 192 MiB resident under Ray, and 16 MiB for what filters leave (`ann/remembered.py`)."""
_CUDA_BYTES = 512 * _MIB
"""CUDA and Faiss's kernels in the process of a shard with a GPU: an estimate; say `ray.workers.memory` for more."""
ENCODER_BYTES = 192 * _MIB
"""The process of an encoder deployment without its model."""
RERANKER_BYTES = 256 * _MIB
"""A reranker's process without the patches that it keeps: as a shard's, and the candidates of the searches under way."""
CROSS_SCORER_BYTES = 2 * 1024 * _MIB
"""torch and a scorer of the user's own: an estimate; say `ray.workers.memory` for a larger one."""
_REMEMBERED_PATCHES = 32 * _MIB  # of 2,048 query pictures
PATCH_ROW_BYTES = 196 * 64 + 2
"""Packed patches of one image of the bundled encoder; other encoders have grids of other sizes."""
LITE0_BYTES = 256 * _MIB
"""EfficientNet-Lite0 in OpenVINO: 158 MiB resident after loading, more while batches are encoded."""
TORCH_MODEL_BYTES = 3 * 1024 * _MIB
"""torch and a model of some hundred million parameters: an estimate; say `ray.workers.memory` for a larger one."""
DECODER_BYTES = 48 * _MIB
"""A decoding process between pictures: 22 MiB of its own."""
_DECODE_WORKERS = 2
_BYTES_PER_PIXEL = 24  # as much as a decoder may take
_CHUNKS_AT_ONCE = 3
_PIXELS = 224 * 224 * 3  # of one image on its way to the encoder
CONNECTIONS_PER_SHARD = 2
"""Database connections a shard replica may hold."""
CONNECTIONS_PER_RERANKER = 2
"""Database connections a reranker may hold."""


@dataclass(frozen=True)
class Cpus:
    """Logical CPUs that the replicas of a role reserve together."""

    gateways: float
    shards: float
    encoders: float
    rerankers: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.gateways + self.shards + self.encoders + self.rerankers


def cpus_of(spec: Spec) -> Cpus:
    """The logical CPUs that an index's replicas reserve, by role."""
    return Cpus(
        gateways=gateway_replicas(spec) * GATEWAY_CPUS,
        shards=shard_replicas(spec) * SHARD_CPUS,
        encoders=encoder_replicas(spec) * ENCODER_CPUS,
        rerankers=reranker_replicas(spec) * RERANKER_CPUS,
    )


def gpus_of(spec: Spec) -> float:
    """The GPUs that an index's encoders reserve."""
    return encoder_replicas(spec) * spec.encoder.num_gpus


def shard_gpus(spec: Spec) -> float:
    """The GPUs that an index's shards reserve."""
    return shard_replicas(spec) * spec.index.num_gpus


def gateway_replicas(spec: Spec) -> int:
    """Gateways of an index."""
    return spec.replicas(spec.gateway.replicas)


def shard_replicas(spec: Spec) -> int:
    """Replicas of all shards together."""
    return spec.index.shards * spec.replicas(spec.index.replicas)


def encoder_replicas(spec: Spec) -> int:
    """Replicas of the encoder's deployment: none where gateways encode."""
    return 0 if spec.encoder.in_gateway else spec.replicas(spec.encoder.replicas)


def reranker_replicas(spec: Spec) -> int:
    """Replicas of the reranker: none where the index keeps no patches."""
    return spec.replicas(spec.rerank.replicas) if spec.rerank.kept else 0


def generation_cache(spec: Spec) -> int:
    """Bytes that files of generations may take of a node's volume.

    A pod whose volume is fuller than stated is evicted: the rest is for generations that are being built, and for weights.
    """
    return int(spec.ray.cache.size * GENERATIONS_SHARE)


def postgres_connections(spec: Spec) -> int:
    """The most connections an index's replicas may hold to its database at once."""
    gateways = gateway_replicas(spec) * spec.postgres.max_connections
    shards = shard_replicas(spec) * CONNECTIONS_PER_SHARD
    return gateways + shards + reranker_replicas(spec) * CONNECTIONS_PER_RERANKER


def local_cpus(resources: list[VisualIndex], others: Sequence[VisualIndex] = ()) -> float:
    """The logical CPUs that all replicas of a local service, with its one gateway for all, reserve together.

    `others` are resources with encoders that their indexes are served with besides that of the spec.
    """
    each = [cpus_of(resource.spec) for resource in resources]
    beside = sum(cpus_of(one.spec).encoders for one in others)
    return max(c.gateways for c in each) + sum(c.shards + c.encoders + c.rerankers for c in each) + beside


def decode_workers(spec: Spec) -> int:
    """Decoding processes of a gateway on a cluster, whose nodes may have many more cores than a pod may use."""
    return spec.gateway.decode_workers or _DECODE_WORKERS


def gateway_memory(spec: Spec, others: Sequence[EncoderSpec] = ()) -> int:
    """Bytes a gateway replica may take.

    Its process, what it remembers, encoder and decoders, and one largest picture and body on their way. `others` are
    encoders that the index is served with besides that of the spec.
    """
    encoder = sum(encoder_bytes(one) for one in (spec.encoder, *others) if one.in_gateway)
    encoder += _REMEMBERED_PATCHES if spec.rerank.kept else 0
    picture = spec.limits.image_pixels * _BYTES_PER_PIXEL + spec.limits.image_bytes * 4
    return (
        GATEWAY_BYTES
        + spec.gateway.record_cache
        + encoder
        + decode_workers(spec) * DECODER_BYTES
        + picture
        + spec.limits.request_bytes
    )


def shard_memory(spec: Spec) -> int:
    """Bytes a shard replica may take: the active generation's budget, a share of it for each other that is loaded, the
    kept ones and the next, and the process around them; GPU memory not counted."""
    index = spec.index
    process = SHARD_BYTES + (_CUDA_BYTES if index.num_gpus else 0)
    return process + int(index.memory_per_shard * (1 + FRESH_SHARE * index.keep_generations))


def encoder_memory(spec: Spec) -> int:
    """Bytes a replica of an encoder deployment may take, GPU memory not counted."""
    return ENCODER_BYTES + encoder_bytes(spec.encoder)


def reindex_worker_memory(spec: Spec) -> int:
    """Bytes an encoding process of a rebuild may take: the model, decoders at work, and three chunks on their way."""
    return encoder_memory(spec) + _decoding(spec) + _CHUNKS_AT_ONCE * spec.reindex.chunk_images * _PIXELS


def reindex_decoder_memory(spec: Spec) -> int:
    """Bytes a process that fetches and decodes for encoders elsewhere may take."""
    return ENCODER_BYTES + _decoding(spec) + _CHUNKS_AT_ONCE * spec.reindex.chunk_images * _PIXELS


def reindex_driver_memory(spec: Spec) -> int:
    """Bytes the process of a rebuild may take that plans, builds shards, and judges with copies of pictures."""
    return shard_memory(spec) + encoder_memory(spec) + _picture(spec) + DECODER_BYTES


def _decoding(spec: Spec) -> int:
    return spec.reindex.decode_workers * (DECODER_BYTES + _picture(spec))


def _picture(spec: Spec) -> int:
    return spec.limits.image_pixels * _BYTES_PER_PIXEL


def reranker_memory(spec: Spec) -> int:
    """Bytes a reranker replica may take."""
    scorer = CROSS_SCORER_BYTES if spec.rerank.cross_scorer is not None else 0
    return RERANKER_BYTES + spec.rerank.memory + scorer


def encoder_bytes(encoder: EncoderSpec) -> int:
    """Bytes of a model and its runtime, wherever it is loaded; GPU memory not counted."""
    return LITE0_BYTES if encoder.family == "efficientnet-lite0" else TORCH_MODEL_BYTES
