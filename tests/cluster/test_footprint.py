"""What an index takes of a cluster."""

from visualindex.footprint import (
    Cpus,
    cpus_of,
    encoder_memory,
    gateway_memory,
    gpus_of,
    postgres_connections,
    reranker_memory,
    shard_gpus,
    shard_memory,
)
from visualindex.spec.models import (
    EncoderSpec,
    GatewaySpec,
    IndexSpec,
    LimitsSpec,
    PostgresSpec,
    RerankSpec,
    Spec,
)


def test_on_cpu_gateways_and_shards_reserve_cpus() -> None:
    assert cpus_of(Spec(index=IndexSpec(shards=3))) == Cpus(gateways=1.0, shards=1.5, encoders=0.0)
    assert gpus_of(Spec()) == 0


def test_an_encoder_on_gpus_reserves_its_own() -> None:
    spec = Spec(encoder=EncoderSpec(num_gpus=0.5, replicas=3))
    assert (cpus_of(spec).encoders, cpus_of(spec).total, gpus_of(spec)) == (1.5, 3.0, 1.5)


def test_every_replica_of_a_shard_reserves_its_gpus() -> None:
    index = IndexSpec(family="ivf-sq8", num_gpus=0.5, shards=3, replicas=2)
    assert (shard_gpus(Spec(index=index)), shard_gpus(Spec()), gpus_of(Spec(index=index))) == (3.0, 0.0, 0.0)
    assert shard_memory(Spec(index=index)) > shard_memory(Spec(index=IndexSpec(family="ivf-sq8")))


def test_the_small_profile_counts_one_of_everything() -> None:
    spec = Spec(profile="small", index=IndexSpec(shards=2, replicas=3), gateway=GatewaySpec(replicas=5))
    assert cpus_of(spec) == Cpus(gateways=0.5, shards=0.5, encoders=0.0)


def test_connections_are_those_of_gateways_and_two_per_shard_replica() -> None:
    spec = Spec(index=IndexSpec(shards=3, replicas=2), postgres=PostgresSpec(max_connections=5))
    assert postgres_connections(spec) == 2 * 5 + 6 * 2


def test_an_index_that_keeps_patches_has_rerankers() -> None:
    spec = Spec(rerank=RerankSpec(mode="auto", replicas=3, memory=1024**3))
    assert (cpus_of(spec).rerankers, cpus_of(Spec()).rerankers) == (0.75, 0)
    assert postgres_connections(spec) - postgres_connections(Spec()) == 3 * 2
    assert reranker_memory(spec) > 1024**3


def test_a_shard_takes_its_budget_and_what_its_process_needs() -> None:
    small, large = (Spec(index=IndexSpec(memory_per_shard=size)) for size in ("1Gi", "4Gi"))
    assert shard_memory(large) - shard_memory(small) == 3 * 1024**3 * 1.5
    assert shard_memory(small) > 1024**3


def test_a_gateways_memory_grows_with_its_decoders_and_the_pictures_they_may_get() -> None:
    one, four = (Spec(gateway=GatewaySpec(decode_workers=count)) for count in (1, 4))
    assert gateway_memory(four) > gateway_memory(one)
    assert gateway_memory(Spec(limits=LimitsSpec(image_pixels=256_000_000))) > gateway_memory(Spec())


def test_an_encoder_elsewhere_is_not_in_the_gateways_memory() -> None:
    elsewhere = Spec(encoder=EncoderSpec(placement="deployment"))
    assert gateway_memory(elsewhere) < gateway_memory(Spec())
    assert encoder_memory(elsewhere) > 0
