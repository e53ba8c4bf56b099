"""The second half of a chunk: encoded, and put together with what the first half found."""

import time
from dataclasses import replace

from visualindex.catalog import Encoded
from visualindex.reindexing.chunks import Done
from visualindex.reindexing.encoding import BatchEncoder
from visualindex.reindexing.preparing import Prepared


def finish(prepared: Prepared, front: BatchEncoder, gpus: float) -> Done:
    """Encode a prepared chunk on so many GPUs. Blocks."""
    begun = time.perf_counter()
    made = front.encode(prepared.pixels)
    encoded, at = [], 0
    for image, colours in zip(prepared.images, prepared.colours, strict=True):
        vector = patches = None
        if image.encode:
            vector = made.vectors[at].tobytes()
            patches = None if made.patches is None else made.patches[at]
            at += 1
        encoded.append(Encoded(image.image_id, image.digest, vector, colours, patches))
    account = replace(
        prepared.account,
        cpu_s=prepared.account.cpu_s + made.cpu_s,
        gpu_s=(time.perf_counter() - begun) * gpus,
    )
    return Done(encoded, prepared.refused, account)
