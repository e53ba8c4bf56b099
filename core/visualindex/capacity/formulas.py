"""One formula a function: what an index of so many images takes.

Bytes are bytes, times are seconds of one core unless said otherwise. d is the dimension of the vectors.
"""

import math
from dataclasses import dataclass

from visualindex.capacity.coefficients import Coefficients
from visualindex.capacity.sizes import (
    FLAT,
    Parameters,
    disk_bytes,
    held_while_built,
    lists_of,
    resident_bytes,
    row_bytes,
    sampled_rows,
)
from visualindex.footprint import PATCH_ROW_BYTES, cpus_of, gpus_of
from visualindex.identity import BUCKETS
from visualindex.spec import Spec
from visualindex.spec.models import IndexSpec

FOLD_SHARE = 0.2
"""Fresh rows, of all in a shard, at which `index.fold: auto` builds a new generation."""
BUILD_CONNECTIONS = 3
"""Database connections of the job that builds a generation: it reads one shard, publishes another, and holds its lease."""
SEGMENT_ROW_BYTES = 40
"""Bytes of a row beside vector and index: id, version, bucket, its place in the order of ids, whether it is alive."""
_FILE_ROW_BYTES = 38
"""Of a row in `ids.bin`, `versions.bin`, `buckets.bin`, `id_keys.bin` and `by_id.bin`."""
_PAGE, _PAGE_HEADER, _LARGEST_TUPLE = 8192, 24, 8160


@dataclass(frozen=True)
class Load:
    """What is to be held."""

    images: int
    original_bytes: int = 500_000
    """Mean bytes of an original."""
    thumbnail_share: float = 1.0
    """Share of the images whose three thumbnails are asked for, and so made and kept."""


@dataclass(frozen=True)
class SegmentBytes:
    """The files of one generation, all shards together."""

    vectors: int
    index: int
    attributes: int
    rows: int
    """Ids, versions, buckets, and the order of ids."""
    patches: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.vectors + self.index + self.attributes + self.rows + self.patches


def rows_of_largest(images: int, shards: int) -> int:
    """ceil(images x ceil(1024 / shards) / 1024): a shard owns whole buckets, and the largest one more than others."""
    return -(-images * -(-BUCKETS // shards) // BUCKETS)


def fresh_rows(index: IndexSpec, rows: int) -> int:
    """min(rows, max(flatBelow, rows / 5)): fresh rows of a shard when a new generation is begun."""
    return min(rows, max(index.flat_below, math.ceil(FOLD_SHARE * rows)))


def fresh_bytes(index: IndexSpec, fresh: int, dimension: int, measured: Coefficients) -> int:
    """fresh x (2d + fresh_row_bytes + L beyond flatBelow): vectors, attributes and graph, L as in `capacity.sizes`."""
    links = row_bytes("hnsw-fp16", dimension, Parameters(index.hnsw)) if fresh > index.flat_below else 0.0
    return math.ceil(fresh * (2 * dimension + measured.fresh_row_bytes + links))


def shard_bytes(index: IndexSpec, family: str, rows: int, dimension: int) -> int:
    """resident_bytes(family) + rows x 40: what searches keep touching, without attributes and fresh rows."""
    return resident_bytes(family, rows, dimension, Parameters(index.hnsw)) + SEGMENT_ROW_BYTES * rows


def hot_bytes(index: IndexSpec, family: str, rows: int, dimension: int, measured: Coefficients) -> int:
    """resident_bytes(family) + rows x (40 + attribute_bytes): a generation's part that searches keep touching."""
    return shard_bytes(index, family, rows, dimension) + math.ceil(rows * measured.attribute_bytes)


def segment_bytes(spec: Spec, family: str, rows: int, measured: Coefficients) -> SegmentBytes:
    """vectors 2d x rows, index disk_bytes(family) - 2d x rows, attributes attribute_bytes x rows, rows 38 x rows, patches
    12,546 x rows where `rerank` keeps them.

    In memory the 38 are 40: which rows are alive takes one byte more, and one is rounding.
    """
    dimension = spec.encoder.dimension
    vectors = 2 * dimension * rows
    return SegmentBytes(
        vectors=vectors,
        index=disk_bytes(family, rows, dimension, Parameters(spec.index.hnsw)) - vectors,
        attributes=math.ceil(rows * measured.attribute_bytes),
        rows=_FILE_ROW_BYTES * rows,
        patches=rows * PATCH_ROW_BYTES if spec.rerank.kept else 0,
    )


def builders_of(spec: Spec) -> int:
    """min(reindex.builders, shards), and 1 for 0: more are only chosen where there is room for them."""
    return min(max(1, spec.reindex.builders), spec.index.shards)


def scratch_bytes(spec: Spec, family: str, rows: int, measured: Coefficients) -> int:
    """segment_bytes(r) + r x (2d + spool_bytes): files of one shard until they are uploaded, and its rows as read."""
    files = segment_bytes(spec, family, rows, measured).total
    return files + math.ceil(rows * (2 * spec.encoder.dimension + measured.spool_bytes))


def build_memory(spec: Spec, family: str, rows: int, measured: Coefficients) -> int:
    """held_while_built(family) + rows x build_row_bytes: index and sample, ids, attributes and orders of the largest shard.

    Files that are mapped meanwhile are not counted: the kernel may drop their pages.
    """
    index = held_while_built(family, rows, spec.encoder.dimension, Parameters(spec.index.hnsw))
    return index + math.ceil(rows * measured.build_row_bytes)


def build_cpu_s(spec: Spec, family: str, rows: int, measured: Coefficients) -> float:
    """(rows x (fixed + growing x size) + sampled x (learning + learning_growing x size)) / 1000 x d / reference_dimension.

    size: log2(rows) of a graph, the number of lists of the other families; sampled: `capacity.sizes.sampled_rows`.
    """
    cost, size = measured.build[family], _size(spec, family, rows)
    sampled = sampled_rows(family, rows, Parameters(spec.index.hnsw))
    learned = sampled * (cost.learning + cost.learning_growing * size)
    added = rows * (cost.fixed + cost.growing * size)
    return (added + learned) / 1000 * spec.encoder.dimension / measured.reference_dimension


def _size(spec: Spec, family: str, rows: int) -> float:
    if family == FLAT:
        return 0.0
    if family.startswith("hnsw"):
        return math.log2(max(2, rows))
    return lists_of(rows, Parameters(spec.index.hnsw))


def read_s(images: int, measured: Coefficients) -> float:
    """images / read_rows_per_s: wall-clock time in which a build reads all rows from Postgres."""
    return images / measured.read_rows_per_s


def original_bytes(load: Load) -> int:
    """images x original_bytes: equal files are kept once, which is not counted on."""
    return load.images * load.original_bytes


def thumbnail_bytes(spec: Spec, load: Load, measured: Coefficients) -> int:
    """images x share x sum over the three sizes of thumbnail_scale x size ^ thumbnail_power."""
    sizes = spec.storage.thumbnail_sizes
    each = sum(measured.thumbnail_scale * math.pow(size, measured.thumbnail_power) for size in sizes)
    return math.ceil(load.images * load.thumbnail_share * each)


def embedding_bytes(dimension: int, measured: Coefficients) -> float:
    """8192 / floor(8168 / (2d + embedding_row_bytes)) + embedding_index_bytes: whole rows share a page of Postgres.

    A row that no page holds (d above about 4,000) is put beside the table in pieces, at about its own size.
    """
    row = 2 * dimension + measured.embedding_row_bytes
    page = _PAGE / ((_PAGE - _PAGE_HEADER) // row) if row <= _LARGEST_TUPLE else row * 1.1
    return page + measured.embedding_index_bytes


def postgres_bytes(spec: Spec, images: int, measured: Coefficients) -> int:
    """images x (image_row_bytes + embedding_bytes + patches) + log; patches 12,546 + patch_row_bytes where kept.

    The log keeps what was written since the oldest kept generation: keepGenerations x images / 5 x change_bytes.
    """
    patches = PATCH_ROW_BYTES + measured.patch_row_bytes if spec.rerank.kept else 0.0
    row = measured.image_row_bytes + embedding_bytes(spec.encoder.dimension, measured) + patches
    logged = spec.index.keep_generations * FOLD_SHARE * images
    return math.ceil(images * row + logged * measured.change_bytes)


def wal_bytes(spec: Spec, images: int, measured: Coefficients) -> int:
    """images x (2d + wal_bytes): the write-ahead log of writing all images once, which backups and standbys receive."""
    return math.ceil(images * (2 * spec.encoder.dimension + measured.wal_bytes))


def encoder_gpu_s(spec: Spec, images: int, measured: Coefficients) -> float:
    """images / gpu_images_per_s, on whole GPUs; 0 where the encoder runs on the CPU."""
    return images / measured.gpu_images_per_s if gpus_of(spec) else 0.0


def encoder_cpu_s(spec: Spec, images: int, measured: Coefficients) -> float:
    """images x (decode_cpu_s + write_cpu_s + e): e is encode_cpu_s of the bundled encoder, torch_cpu_s of another, 0 on a
    GPU."""
    encode = measured.encode_cpu_s if spec.encoder.family == "efficientnet-lite0" else measured.torch_cpu_s
    each = measured.decode_cpu_s + measured.write_cpu_s + (0.0 if gpus_of(spec) else encode)
    return images * each


def ingest_s(spec: Spec, images: int, measured: Coefficients) -> float:
    """max(GPU seconds / GPUs, CPU seconds / CPUs that gateways and encoders reserve): wall-clock time of writing all."""
    cpus = cpus_of(spec)
    on_cpus = encoder_cpu_s(spec, images, measured) / (cpus.gateways + cpus.encoders)
    gpus = gpus_of(spec)
    on_gpus = encoder_gpu_s(spec, images, measured) / gpus if gpus else 0.0
    return max(on_cpus, on_gpus)
