"""A plan in words: one line a figure, and what it rests on."""

from collections.abc import Iterator

from visualindex.capacity.coefficients import MEASURED_ON, Coefficients
from visualindex.capacity.counts import short_count
from visualindex.capacity.estimate import Capacity
from visualindex.capacity.formulas import FOLD_SHARE, Load
from visualindex.capacity.moving import Move
from visualindex.capacity.rebuilding import Rebuild
from visualindex.capacity.wording import duration, hours, size
from visualindex.footprint import FRESH_SHARE


def figures(found: Capacity) -> Iterator[tuple[str, str]]:
    """Name and text of each figure."""
    yield "images", f"{short_count(found.images)} of {found.dimension} dimensions"
    yield "shards", _shards(found)
    yield "a shard", _shard(found)
    yield "RAM", f"{size(found.memory)} for the processes of all replicas"
    yield "disk", _disk(found)
    yield "objects", f"{size(found.objects)}"
    yield "  originals", size(found.originals)
    yield "  thumbnails", size(found.thumbnails)
    yield from _generation(found)
    yield (
        "build",
        f"{duration(found.build_s)} {_threads(found)}, {size(found.build_memory)} of memory at most",
    )
    yield "encoder", _encoder(found)
    yield "rebuild", _rebuild(found.rebuild)
    yield "postgres", _postgres(found)


def _threads(found: Capacity) -> str:
    return "on one thread" if found.builders == 1 else f"on {found.builders} threads"


def _shards(found: Capacity) -> str:
    fewest = "none fits" if found.fewest_shards is None else str(found.fewest_shards)
    return f"{found.shards} (fewest that fit: {fewest}), {found.shard_replicas} replicas in all"


def _shard(found: Capacity) -> str:
    return (
        f"{found.shard_images:,} images, {found.family}: {size(found.shard_bytes)} of memoryPerShard "
        f"{size(found.memory_per_shard)}, with {found.fresh_images:,} fresh images"
    )


def _disk(found: Capacity) -> str:
    return (
        f"{size(found.node_disk)} on a pod: {found.keep_generations} + 1 generations and {size(found.scratch)} of a build "
        f"(ray.cache.size {size(found.cache_size)})"
    )


def _postgres(found: Capacity) -> str:
    return (
        f"{size(found.postgres)}, {found.postgres_connections} connections; writing all makes {size(found.wal)} of "
        "write-ahead log"
    )


def _generation(found: Capacity) -> Iterator[tuple[str, str]]:
    parts = found.generation
    kept = found.keep_generations
    yield "  generations", f"{size(kept * parts.total)}: {kept} x {size(parts.total)}"
    for name in ("vectors", "index", "attributes", "rows", "patches"):
        yield f"    {name}", f"{size(kept * getattr(parts, name))}: {kept} x {size(getattr(parts, name))}"


def _encoder(found: Capacity) -> str:
    gpu = f"{hours(found.encoder_gpu_s)} GPU-hours and " if found.encoder_gpu_s else ""
    what = "decoding and writing" if found.encoder_gpu_s else "decoding, encoding and writing"
    where = "the CPUs and GPUs that it reserves" if found.encoder_gpu_s else "the CPUs that it reserves"
    return f"{gpu}{hours(found.encoder_cpu_s)} CPU-hours of {what}; {duration(found.ingest_s)} on {where}"


def of_move(found: Move) -> Iterator[tuple[str, str]]:
    """Name and text of what a change of the encoder takes while both are served."""
    where = "gateways" if found.in_gateways else "replicas of its deployment"
    gpus = f" and {found.gpus:g} GPUs" if found.gpus else ""
    yield "old encoder", f"{size(found.memory)}{gpus} more, in {found.places} {where}, until it is retired"
    yield "old vectors", f"{size(found.postgres)} in the database, beside the new ones"
    gpu = f"{hours(found.gpu_s)} GPU-hours and " if found.gpu_s else ""
    yield "rebuild", f"{gpu}{hours(found.cpu_s)} CPU-hours to encode every image anew"
    yield "writes", "encoded with both"


def _rebuild(found: Rebuild) -> str:
    gpu = f"{hours(found.gpu_s)} GPU-hours and " if found.gpu_s else ""
    workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    cost = f", {found.paid_cost:,.2f} by reindex.prices" if found.paid_cost else ""
    return (
        f"{gpu}{hours(found.cpu_s)} CPU-hours from originals alone, {duration(found.wall_s)} on {workers} with "
        f"{found.cpus:g} CPUs{cost}; ledger {size(found.ledger_bytes)} in {found.ledger_objects:,} objects"
    )


def status_lines(found: Capacity) -> list[str]:
    """The plan in the few lines that a status has room for."""
    told = dict(figures(found))
    names = ("images", "shards", "a shard", "RAM", "disk", "objects", "build", "encoder", "postgres")
    return [*(f"{name}: {told[name]}" for name in names), *(f"does not fit: {one}" for one in found.problems)]


def assumptions(load: Load, measured: Coefficients, *, own: bool) -> list[str]:
    """What the figures rest on."""
    originals = f"originals of {load.original_bytes:,} bytes, all different"
    thumbnails = f"thumbnails of {load.thumbnail_share:.0%} of the images"
    gpu = f"one whole GPU encodes {measured.gpu_images_per_s:,.0f} images/s"
    torch = f"a torch model takes {measured.torch_cpu_s * 1000:.0f} ms of CPU an image"
    return [
        f"{originals}; {thumbnails}",
        f"metadata of {measured.metadata_bytes:.0f} bytes an image, as of a shop's products",
        f"a generation is built when {FOLD_SHARE:.0%} of a shard, and more than flatBelow, is fresh",
        f"RAM has memoryPerShard once a shard replica, and {FRESH_SHARE:.0%} more for each other generation that it loads",
        "files of these other generations stay mapped, and the kernel may drop their pages",
        "one build at a time, of as many shards at once as reindex.builders says, one for 0, each on one thread",
        f"{gpu}, {torch}: neither was measured",
        "patches of 12,546 bytes, as of the bundled encoder, where rerank keeps them: in the database and in generations",
        "search logs, backups and standbys of Postgres are not counted",
        f"coefficients: {'your file' if own else MEASURED_ON}",
    ]
