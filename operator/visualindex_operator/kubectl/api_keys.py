"""The API key for an index: the one the caller gives, or one the index's Secret holds."""

from visualindex.errors import ProblemError
from visualindex_operator import names
from visualindex_operator.api_key import first_key
from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster, Object


async def api_key(cluster: Cluster, index: Object) -> str:
    """The key `admin` of the Secret with the index's keys, or its first. ProblemError when there is none to have."""
    named = index.get("spec", {}).get("access", {}).get("keysSecretRef")
    secret = str(named or names.api_keys_secret(index["metadata"]["name"]))
    try:
        document = await cluster.get(
            f"{paths.core(cluster.namespace, 'secrets')}/{secret}", f"Secret {secret}"
        )
    except ProblemError as problem:
        detail = f"{problem.detail}; or give a key with --api-key or VISUALINDEX_API_KEY"
        raise ProblemError(problem.type, detail) from None
    return first_key(secret, document.get("data") or {})
