"""What may be fetched: the operator's rules applied to URLs and to the addresses their hosts resolve to."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching.addresses import IPAddress, IPNetwork, Reach, meant, reach_of
from visualindex.spec.models import FetchSpec

MAX_URL_LENGTH = 4096
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class Target:
    """A URL that the rules let pass, as far as they can tell without resolving its host."""

    url: httpx.URL
    host: str
    """ASCII host name or address literal, lower case, without brackets and trailing dot."""
    port: int


class FetchPolicy:
    """The rules of one index: pure, no I/O. Every refusal is a `ProblemError` FETCH_REFUSED."""

    def __init__(self, spec: FetchSpec) -> None:
        """`ProblemError` INVALID_REQUEST when an entry of `fetch.allowHosts` cannot be understood."""
        self._spec = spec
        self._hosts: set[tuple[str, int | None]] = set()
        self._networks: list[IPNetwork] = []
        for entry in spec.allow_hosts:
            self._admit(entry)

    def target_of(self, url: str) -> Target:
        """Check everything about `url` that can be checked before its host is resolved."""
        if not self._spec.enabled:
            raise refused("fetching by URL is switched off: send the image itself, or set fetch.enabled")
        parsed = _parsed(url)
        host = _host_of(parsed)
        if parsed.scheme not in self._spec.schemes:
            raise refused(
                f"scheme {parsed.scheme[:20]!r} is not allowed: fetch.schemes allows {self._spec.schemes}"
            )
        port = _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
        if port not in self._spec.ports and (host, port) not in self._hosts:
            raise refused(
                f"port {port} is not allowed: add it to fetch.ports or {host}:{port} to fetch.allowHosts"
            )
        return Target(parsed, host, port)

    def check_addresses(self, host: str, port: int, addresses: Iterable[IPAddress]) -> None:
        """Refuse `host` when any address it resolves to may not be reached; the address itself is not disclosed."""
        if not all(self._may_reach(host, port, address) for address in addresses):
            raise refused(
                f"host {host} leads to an address that is not public: an operator can allow a private image host by "
                "adding it to fetch.allowHosts"
            )

    def _may_reach(self, host: str, port: int, address: IPAddress) -> bool:
        reach = reach_of(address)
        if reach in (Reach.PUBLIC, Reach.METADATA):
            return reach is Reach.PUBLIC
        if any(meant(address) in network for network in self._networks):
            return True
        named = (host, port) in self._hosts or (host, None) in self._hosts
        return named and reach is Reach.PRIVATE

    def _admit(self, entry: str) -> None:
        network = _network(entry)
        if network is not None:
            self._networks.append(network)
            return
        try:
            url = httpx.URL(f"//{entry}")
            host = _host_of(url)
            if url.raw_path not in (b"", b"/") or url.userinfo:
                raise refused("only host and port belong here")
        except (httpx.InvalidURL, ProblemError) as error:
            raise ProblemError(
                ProblemType.INVALID_REQUEST,
                f"fetch.allowHosts entry {entry!r} is not understood ({error}): write host, host:port or a CIDR block",
            ) from error
        self._hosts.add((host, url.port))


def refused(detail: str) -> ProblemError:
    """The problem of a URL that the rules forbid."""
    return ProblemError(ProblemType.FETCH_REFUSED, detail)


def literal_of(host: str) -> IPAddress | None:
    """The address that `host` spells, or None when it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _parsed(url: str) -> httpx.URL:
    if len(url) > MAX_URL_LENGTH:
        raise refused(f"the URL has {len(url)} characters: at most {MAX_URL_LENGTH} are allowed")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise refused("the URL is malformed: write http(s)://host/path") from error
    if parsed.userinfo:
        raise refused("the URL carries a user name or password: remove it, credentials are never sent")
    return parsed


def _host_of(url: httpx.URL) -> str:
    """The ASCII host, in the one spelling that all later checks use."""
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    if literal_of(host) is not None:
        if "%" in host:
            raise refused("the address names a network interface: remove the zone after '%'")
        return str(literal_of(host))
    if not _HOST_NAME.fullmatch(host):
        raise refused(f"{host[:80]!r} is not a host name: write http(s)://host/path")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        # Resolvers read such names as octal, hexadecimal or shortened addresses, each in its own way.
        raise refused(f"host {host[:80]} is an unusual spelling of an address: write four decimal numbers")
    return host


def _network(entry: str) -> IPNetwork | None:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        return None
