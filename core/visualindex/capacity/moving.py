"""What a move from one encoder to another takes while both are served: derived from both specs, as the plan of each is."""

import math
from dataclasses import dataclass

from visualindex.capacity import formulas
from visualindex.capacity.coefficients import Coefficients
from visualindex.capacity.formulas import Load
from visualindex.footprint import encoder_bytes, encoder_memory, encoder_replicas, gateway_replicas, gpus_of
from visualindex.spec import Spec
from visualindex.spec.served_encoder import same_space, shown


@dataclass(frozen=True)
class Move:
    """What the old encoder takes beside the new one: bytes, GPUs, and seconds of encoding every image anew."""

    index: str
    before: str
    after: str
    memory: int
    """Of all gateways, or of all replicas of its deployment."""
    places: int
    """How many those are."""
    in_gateways: bool
    gpus: float
    postgres: int
    """Vectors of the old encoder, beside those of the new."""
    gpu_s: float
    cpu_s: float


def move(index: str, before: Spec, after: Spec, load: Load, measured: Coefficients) -> Move | None:
    """What changing the encoder of `before` for that of `after` takes; None where it is the same."""
    if same_space(before.encoder, after.encoder):
        return None
    here = before.encoder.in_gateway
    places = gateway_replicas(after) if here else encoder_replicas(before)
    each = encoder_bytes(before.encoder) if here else encoder_memory(before)
    vectors = load.images * formulas.embedding_bytes(before.encoder.dimension, measured)
    return Move(
        index,
        shown(before.encoder),
        shown(after.encoder),
        memory=places * each,
        places=places,
        in_gateways=here,
        gpus=0.0 if here else gpus_of(before),
        postgres=math.ceil(vectors),
        gpu_s=formulas.encoder_gpu_s(after, load.images, measured),
        cpu_s=formulas.encoder_cpu_s(after, load.images, measured),
    )
