"""Which IP addresses belong to the public internet: a pure judgement, independent of the Python release.

The blocks are those of the IANA special-purpose registries (RFC 6890 and successors) plus the addresses at which clouds
answer with a machine's credentials.
"""

from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class Reach(Enum):
    """How an address may be reached."""

    PUBLIC = "public"
    """Part of the internet: always allowed."""
    PRIVATE = "private"
    """A network of one's own: allowed when the operator names the host or the block."""
    SPECIAL = "special"
    """No place for a picture server (multicast, link-local, reserved, tunnels): allowed only by naming the block."""
    METADATA = "metadata"
    """Hands out credentials of the machine: never allowed."""


_METADATA: frozenset[IPAddress] = frozenset(
    [
        IPv4Address("169.254.169.254"),  # AWS, Azure, Google Cloud, OpenStack and others
        IPv4Address("169.254.170.2"),  # AWS container credentials
        IPv4Address("169.254.170.23"),  # AWS pod identity
        IPv4Address("168.63.129.16"),  # Azure, in the middle of public space
        IPv4Address("100.100.100.200"),  # Alibaba Cloud
        IPv4Address("192.0.0.192"),  # Oracle Cloud
        IPv6Address("fd00:ec2::254"),  # AWS
        IPv6Address("fd00:ec2::23"),  # AWS pod identity
        IPv6Address("fd20:ce::254"),  # Google Cloud
    ]
)

_PRIVATE_V4 = [
    IPv4Network(block)
    for block in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
]
_SPECIAL_V4 = [
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_PRIVATE_V6 = [IPv6Network("fc00::/7"), IPv6Network("::1/128")]
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SPECIAL_V6 = [
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments, among them Teredo (2001::/32), which embeds IPv4 addresses
        "2001:db8::/32",
        "2002::/16",  # 6to4 embeds an IPv4 address and is deprecated (RFC 7526)
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP_MARKS = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))


def reach_of(address: IPAddress) -> Reach:
    """How `address` may be reached; an IPv6 address that stands for an IPv4 one is judged as that one."""
    inner = meant(address)
    if inner in _METADATA:
        return Reach.METADATA
    return _reach_v4(inner) if isinstance(inner, IPv4Address) else _reach_v6(inner)


def meant(address: IPAddress) -> IPAddress:
    """The address that packets end at: unwraps IPv4-mapped (RFC 4291) and NAT64 (RFC 6052) addresses."""
    if isinstance(address, IPv6Address):
        # A zone id makes an address unequal to every entry of the tables.
        plain = IPv6Address(address.packed)
        return IPv4Address(plain.packed[-4:]) if plain in _MAPPED or plain in _NAT64 else plain
    return address


def _reach_v4(address: IPv4Address) -> Reach:
    if any(address in block for block in _PRIVATE_V4):
        return Reach.PRIVATE
    return Reach.SPECIAL if any(address in block for block in _SPECIAL_V4) else Reach.PUBLIC


def _reach_v6(address: IPv6Address) -> Reach:
    if any(address in block for block in _PRIVATE_V6):
        return Reach.PRIVATE
    isatap = address.packed[8:12] in _ISATAP_MARKS
    if address not in _GLOBAL_UNICAST or isatap or any(address in block for block in _SPECIAL_V6):
        return Reach.SPECIAL
    return Reach.PUBLIC
