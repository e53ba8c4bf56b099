"""What a rebuild of so many images takes: machines' time, objects, requests and money. One formula a function.

docs/reindexing-at-size.md has them in words. A worker is an encoder with the processes that decode for it.
"""

import math
from dataclasses import dataclass

from visualindex.capacity.coefficients import Coefficients
from visualindex.footprint import PATCH_ROW_BYTES
from visualindex.spec import Spec

_LISTED = 1_000
"""Keys of one listing, and of one request that deletes."""
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Rebuild:
    """What making everything anew takes, up to the last committed chunk; the build of the generation comes after."""

    gpu_s: float
    cpu_s: float
    """Of decoding, encoding where no GPU does it, and everything else, the database included."""
    wall_s: float
    """With as many workers as the spec says, each keeping its GPU or its CPUs busy."""
    workers: int
    cpus: float
    """Of all workers and decoders."""
    ledger_bytes: int
    """Of the ledger's objects at the end, before they are deleted."""
    ledger_objects: int
    gets: int
    puts: int
    lists: int
    """Listings and deletions."""
    busy_cost: float
    """Of the seconds above, in the currency of `spec.reindex.prices`: what the job's summary says."""
    paid_cost: float
    """Of the workers' machines for as long as chunks are made, busy or not."""


def rebuild(spec: Spec, images: int, measured: Coefficients) -> Rebuild:
    """Of every image, as after a change of the encoder."""
    gpu_s, cpu_s = rebuild_gpu_s(spec, images, measured), rebuild_cpu_s(spec, images, measured)
    wall_s = rebuild_wall_s(spec, images, measured)
    chunks = chunk_count(spec, images)
    prices, workers = spec.reindex.prices, spec.reindex.workers
    hourly = workers * spec.encoder.num_gpus * prices.gpu_hour + rebuild_cpus(spec) * prices.cpu_hour
    return Rebuild(
        gpu_s=gpu_s,
        cpu_s=cpu_s,
        wall_s=wall_s,
        workers=workers,
        cpus=rebuild_cpus(spec),
        ledger_bytes=ledger_bytes(spec, images, measured),
        ledger_objects=2 * chunks + 1,
        gets=images + 2 * chunks,
        puts=2 * chunks + 1,
        lists=_pages(chunks) + 2 * _pages(2 * chunks + 1),
        busy_cost=(cpu_s * prices.cpu_hour + gpu_s * prices.gpu_hour) / _HOUR_S,
        paid_cost=wall_s / _HOUR_S * hourly,
    )


def rebuild_cpus(spec: Spec) -> float:
    """workers x c + decoders x e: c and e are `reindex.cpus`, or one for each encoder and each decoding process."""
    one, decoding = spec.reindex, float(spec.reindex.decode_workers)
    if one.cpus is not None:
        return (one.workers + one.decoders) * one.cpus
    return one.workers * (1.0 + (0.0 if one.decoders else decoding)) + one.decoders * decoding


def rebuild_gpu_s(spec: Spec, images: int, measured: Coefficients) -> float:
    """images / gpu_images_per_s; 0 where the encoder runs on the CPU."""
    return images / measured.gpu_images_per_s if spec.encoder.num_gpus else 0.0


def rebuild_cpu_s(spec: Spec, images: int, measured: Coefficients) -> float:
    """images x (decode_cpu_s + rebuild_cpu_s + e): e is encode_cpu_s of the bundled encoder, torch_cpu_s of another, 0 on a
    GPU."""
    encode = measured.encode_cpu_s if spec.encoder.family == "efficientnet-lite0" else measured.torch_cpu_s
    encode = 0.0 if spec.encoder.num_gpus else encode
    return images * (measured.decode_cpu_s + measured.rebuild_cpu_s + encode)


def rebuild_wall_s(spec: Spec, images: int, measured: Coefficients) -> float:
    """max(GPU seconds / GPUs, CPU seconds / CPUs of all workers, images / commit_rows_per_s): one driver commits all."""
    cpus, gpus = rebuild_cpus(spec), spec.reindex.workers * spec.encoder.num_gpus
    on_cpus = rebuild_cpu_s(spec, images, measured) / cpus if cpus else 0.0
    on_gpus = rebuild_gpu_s(spec, images, measured) / gpus if gpus else 0.0
    return max(on_cpus, on_gpus, images / measured.commit_rows_per_s)


def chunk_count(spec: Spec, images: int) -> int:
    """ceil(images / chunkImages)."""
    return -(-images // spec.reindex.chunk_images)


def ledger_bytes(spec: Spec, images: int, measured: Coefficients) -> int:
    """images x (2d + ledger_row_bytes), and 12,546 where patches are kept, + chunks x ledger_chunk_bytes."""
    patches = PATCH_ROW_BYTES if spec.rerank.kept else 0
    rows = images * (2 * spec.encoder.dimension + measured.ledger_row_bytes + patches)
    return math.ceil(rows + chunk_count(spec, images) * measured.ledger_chunk_bytes)


def _pages(objects: int) -> int:
    return -(-objects // _LISTED)
