"""What an index takes of a cluster: logical CPUs, GPUs, memory and database connections, from its spec alone."""

from dataclasses import dataclass

from visualindex.spec import Spec, VisualIndex

GATEWAY_CPUS = 0.5
"""Logical CPUs a gateway replica reserves."""
SHARD_CPUS = 0.25
"""Logical CPUs a shard replica reserves."""
ENCODER_CPUS = 0.5
"""Logical CPUs a replica of an encoder deployment reserves."""
CONNECTIONS_PER_SHARD = 2
"""Database connections a shard replica may hold."""


@dataclass(frozen=True)
class Cpus:
    """Logical CPUs that the replicas of a role reserve together."""

    gateways: float
    shards: float
    encoders: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.gateways + self.shards + self.encoders


def cpus_of(spec: Spec) -> Cpus:
    """The logical CPUs that an index's replicas reserve, by role."""
    return Cpus(
        gateways=gateway_replicas(spec) * GATEWAY_CPUS,
        shards=shard_replicas(spec) * SHARD_CPUS,
        encoders=encoder_replicas(spec) * ENCODER_CPUS,
    )


def gpus_of(spec: Spec) -> float:
    """The GPUs that an index's encoders reserve."""
    return encoder_replicas(spec) * spec.encoder.num_gpus


def gateway_replicas(spec: Spec) -> int:
    """Gateways of an index."""
    return spec.replicas(spec.gateway.replicas)


def shard_replicas(spec: Spec) -> int:
    """Replicas of all shards together."""
    return spec.index.shards * spec.replicas(spec.index.replicas)


def encoder_replicas(spec: Spec) -> int:
    """Replicas of the encoder's deployment: none where gateways encode."""
    return 0 if spec.encoder.in_gateway else spec.replicas(spec.encoder.replicas)


def postgres_connections(spec: Spec) -> int:
    """The most connections an index's replicas may hold to its database at once."""
    gateways = gateway_replicas(spec) * spec.postgres.max_connections
    return gateways + shard_replicas(spec) * CONNECTIONS_PER_SHARD


def local_cpus(resources: list[VisualIndex]) -> float:
    """The logical CPUs that all replicas of a local service, with its one gateway for all, reserve together."""
    each = [cpus_of(resource.spec) for resource in resources]
    return max(c.gateways for c in each) + sum(c.shards + c.encoders for c in each)
