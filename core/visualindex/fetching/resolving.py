"""From host names to addresses, in threads of its own: slow name servers must not hold up other work."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from visualindex.fetching.addresses import IPAddress


class Resolver(Protocol):
    """Finds the addresses of a host."""

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """All addresses of `host`, preferred ones first; OSError when there is none."""

    async def close(self) -> None:
        """Release what resolving holds."""


class SystemResolver:
    """The operating system's resolver: /etc/hosts, search domains and DNS as configured on this machine."""

    def __init__(self, *, threads: int = 8) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """All addresses of `host` in the system's order of preference; OSError when there is none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _look_up, host, port)
        return list(dict.fromkeys(ipaddress.ip_address(address) for address in found))

    async def close(self) -> None:
        """Take no more look-ups; running ones end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
