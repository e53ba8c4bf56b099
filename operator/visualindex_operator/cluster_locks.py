"""One writer at a time per cluster: reading, merging and writing of several resources must not interleave."""

import asyncio
from weakref import WeakValueDictionary

from visualindex_operator.serve_problems import ClusterRefused
from visualindex_operator.urls import parsed


def normalised(address: str) -> str:
    """One spelling for all spellings of an address. Names of one host are not recognised as such.

    Raises ClusterRefused for what is no address.
    """
    url = parsed(address)
    if url is None:
        raise ClusterRefused(
            f"{address} is no address that can be asked: set spec.ray.external.address to the URL of the dashboard, with a "
            "port between 1 and 65535, e.g. http://ray-head:8265"
        )
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{port}{url.path.rstrip('/')}"


class ClusterLocks:
    """The locks of the clusters in use; a lock that nobody holds or waits for is forgotten."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, address: str) -> asyncio.Lock:
        """The lock of the cluster at an address."""
        return self._locks.setdefault(normalised(address), asyncio.Lock())
