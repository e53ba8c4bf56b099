"""Which addresses count as public, in every notation that stands for another."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visualindex.fetching.addresses import Reach, meant, reach_of

PRIVATE = [
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fdff::1",
]
SPECIAL = [
    "0.0.0.0",  # noqa: S104 - judged, not bound
    "0.1.2.3",
    "169.254.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "4000::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2a00::5efe:7f00:1",
    "2a00::200:5efe:a00:1",
]
METADATA = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd00:ec2::254%1",
    "192.0.0.192",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.32.0.1",
    "2606:4700::1111",
    "2a00:1450::8",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_networks_of_ones_own_are_private(address: str) -> None:
    """What an operator may open by naming the host."""
    assert reach_of(ip_address(address)) is Reach.PRIVATE


@pytest.mark.parametrize("address", SPECIAL)
def test_addresses_without_pictures_are_special(address: str) -> None:
    """Multicast, link-local, reserved, documentation, and tunnels that embed other addresses."""
    assert reach_of(ip_address(address)) is Reach.SPECIAL


@pytest.mark.parametrize("address", METADATA)
def test_credential_services_are_metadata(address: str) -> None:
    """Also where they lie in public space."""
    assert reach_of(ip_address(address)) is Reach.METADATA


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_public(address: str) -> None:
    """The neighbours of private blocks included."""
    assert reach_of(ip_address(address)) is Reach.PUBLIC


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::"]))
def test_a_wrapped_address_is_judged_as_what_it_wraps(address: IPv4Address, wrapper: str) -> None:
    """IPv4-mapped and NAT64 notation change nothing, for any address."""
    wrapped = IPv6Address(int(IPv6Address(wrapper)) | int(address))
    assert reach_of(wrapped) is reach_of(address)


@given(st.ip_addresses())
def test_nothing_the_standard_library_calls_local_is_public(address: IPv4Address | IPv6Address) -> None:
    """An independent judge never finds a local address among the public ones."""
    if reach_of(address) is Reach.PUBLIC:
        inner = meant(address)
        assert not inner.is_private
        assert not inner.is_reserved
        assert not inner.is_multicast
