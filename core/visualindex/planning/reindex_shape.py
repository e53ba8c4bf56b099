"""The pods of a rebuild that has a Ray cluster to itself: a head that stays, and workers that may be taken away."""

import math

from visualindex.footprint import reindex_decoder_memory, reindex_driver_memory, reindex_worker_memory
from visualindex.planning.shape import HEAD_MEMORY, NODE_MEMORY, ClusterShape, Group, fitting, sized
from visualindex.spec import Spec
from visualindex.spec.models import PodSpec

HEAD, WORKER, DECODER = "reindex-head", "reindex-worker", "reindex-decoder"
SPOT_LABELS = {
    "cloud.google.com/gke-spot": "true",
    "cloud.google.com/gke-preemptible": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
    "node.kubernetes.io/lifecycle": "spot",
}
"""How clouds and what makes their nodes label those that may be taken away."""
_HEAD_CPU_MILLIS = 1000  # it builds the generation
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}


def reindex_shape(spec: Spec) -> ClusterShape:
    """The pods for the encoders and decoders of `spec.reindex`, with room for what their processes reserve of Ray."""
    head = Group(
        HEAD, 1, _HEAD_CPU_MILLIS, HEAD_MEMORY + reindex_driver_memory(spec), 0, spec.reindex.cluster.head
    )
    groups = [_workers(spec), *([_decoders(spec)] if spec.reindex.decoders else [])]
    return ClusterShape(spec.ray, sized(head), tuple(sized(group) for group in groups), _ENVIRONMENT)


def _workers(spec: Spec) -> Group:
    reindex, gpus = spec.reindex, spec.encoder.num_gpus
    cards = max(spec.ray.gpu_workers.gpus_per_pod, math.ceil(gpus)) if gpus else 0
    encoders = min(fitting(cards, gpus), reindex.workers) if gpus else 1
    each = 1 + (0 if reindex.decoders else reindex.decode_workers)
    return Group(
        name=WORKER,
        replicas=math.ceil(reindex.workers / encoders),
        cpu_millis=encoders * each * 1000,
        memory=NODE_MEMORY + encoders * reindex_worker_memory(spec),
        logical_cpus=_logical(encoders, each, reindex.cpus),
        pod=_placed(spec),
        gpus=cards,
        gpu_resource=spec.ray.gpu_workers.resource if gpus else "",
    )


def _decoders(spec: Spec) -> Group:
    reindex = spec.reindex
    return Group(
        name=DECODER,
        replicas=reindex.decoders,
        cpu_millis=reindex.decode_workers * 1000,
        memory=NODE_MEMORY + reindex_decoder_memory(spec),
        logical_cpus=_logical(1, reindex.decode_workers, reindex.cpus),
        pod=_placed(spec).model_copy(update={"cpu": None, "memory": None}),
    )


def _logical(processes: int, each: int, stated: float | None) -> int:
    return math.ceil(processes * (each if stated is None else stated))


def _placed(spec: Spec) -> PodSpec:
    """The workers' pods, on nodes with the labels of those that may be taken away."""
    workers = spec.reindex.cluster.workers
    return workers.model_copy(update={"node_selector": {**workers.node_selector, **workers.spot}})


def shunned_by_head(spec: Spec) -> dict[str, str]:
    """Labels of nodes on which the head does not run."""
    return {**SPOT_LABELS, **spec.reindex.cluster.workers.spot}
