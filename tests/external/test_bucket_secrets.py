"""Keys of buckets that pictures are taken from: out of Secrets into what replicas get, and said where one is missing."""

import json
from itertools import count

from tests.operator_api.fake_probes import FakeProbes

from visualindex.credentials import BucketKeys
from visualindex.spec import Spec
from visualindex_operator.dependencies import Checked, DependencyChecks

from .secrets_in_memory import SecretsInMemory

SHOP = {"name": "shop", "endpoint": "minio:9000", "bucket": "pictures"}
SPEC = Spec.model_validate(
    {
        "postgres": {"dsnSecretRef": {"name": "database", "key": "dsn"}},
        "storage": {"s3": {"endpoint": "minio:9000", "bucket": "own", "credentialsSecretRef": "own-keys"}},
        "ingest": {
            "buckets": [
                {**SHOP, "credentialsSecretRef": {"name": "shop-keys", "secretKey": "password"}},
                {**SHOP, "name": "without"},
            ]
        },
    }
)


def cluster() -> SecretsInMemory:
    kube = SecretsInMemory()
    kube.put("database", dsn="postgresql://db/shop")
    kube.put("own-keys", accessKey="own", secretKey="own-secret")
    kube.put("things-api-keys", admin="vi_0123456789012345678901")
    return kube


async def checked(kube: SecretsInMemory) -> Checked:
    hours = count(0, 3600)
    checks = DependencyChecks(kube, FakeProbes(), lambda: float(next(hours)))
    return await checks.check("shop", "things", SPEC)


async def test_the_keys_of_a_bucket_come_from_its_secret() -> None:
    kube = cluster()
    kube.put("shop-keys", accessKey="AK", password="geheim")
    found = await checked(kube)
    assert found.storage.ok
    assert found.credentials is not None
    assert found.credentials.buckets == (BucketKeys("shop", "AK", "geheim"),)
    assert json.loads(found.credentials.entries("things")["things.buckets"]) == {"shop": ["AK", "geheim"]}
    assert "geheim" not in repr(found)


async def test_a_missing_secret_or_key_is_named_and_nothing_is_changed_meanwhile() -> None:
    kube = cluster()
    missing = await checked(kube)
    assert (missing.storage.ok, missing.credentials) == (False, None)
    assert missing.storage.message == (
        "there is no Secret shop-keys (spec.ingest.buckets, shop: credentialsSecretRef): create it, or name another"
    )
    kube.put("shop-keys", accessKey="AK", secretKey="geheim")
    without = await checked(kube)
    assert (without.storage.reason, without.credentials) == ("SecretKeyMissing", None)
    assert "has no key password; it has accessKey, secretKey" in without.storage.message
