"""The only way out: every TCP connection of a fetch goes to an address that was checked a moment before.

Resolving, checking and connecting are one step here, so that a name server cannot give one answer to the check and
another to the connection. Host header, SNI and certificate check keep using the name.
"""

from collections.abc import Iterable, Sequence

import httpcore

from visualindex.fetching.addresses import IPAddress
from visualindex.fetching.policy import FetchPolicy, literal_of
from visualindex.fetching.resolving import Resolver


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only; raises FETCH_REFUSED when any address of the host may not be reached."""

    def __init__(self, policy: FetchPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of `host` that answers, once all of them have been checked."""
        addresses = await self._checked(host.strip("[]").lower().removesuffix("."), port)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("the host has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: sockets of this machine are not fetched from."""
        raise httpcore.ConnectError("sockets of this machine are not fetched from")

    async def _checked(self, host: str, port: int) -> Sequence[IPAddress]:
        literal = literal_of(host)
        try:
            addresses = [literal] if literal else await self._resolver.resolve(host, port)
        except OSError as error:
            raise NameNotFoundError from error
        self._policy.check_addresses(host, port, addresses)
        return addresses


class NameNotFoundError(Exception):
    """The host does not resolve."""
