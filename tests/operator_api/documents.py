"""The resources and Secrets of these tests."""

import base64
from typing import Any

from tests.kubernetes.documents import resource

SECRETS = {
    "postgres": {"dsn": "postgresql://shop:first@db/shop"},
    "bucket": {"accessKey": "AKFIRST", "secretKey": "first"},
    "keys": {"web": "vi_search_first"},
}


def index(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """A small index with a database, a bucket and keys of its own; `spec` goes over it section by section."""
    base: dict[str, Any] = {
        "profile": "small",
        "postgres": {"dsnSecretRef": {"name": "postgres", "key": "dsn"}},
        "storage": {"s3": {"endpoint": "s3.test:9000", "bucket": "images", "credentialsSecretRef": "bucket"}},
        "access": {"keysSecretRef": "keys"},
    }
    return resource(name, **{**base, **spec})


def secret(name: str, **values: str) -> dict[str, Any]:
    """A Secret of a person's."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
