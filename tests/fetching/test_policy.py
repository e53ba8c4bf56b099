"""Which URLs pass before anything is resolved, and what the operator's exceptions open."""

from ipaddress import ip_address

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching.policy import FetchPolicy
from visualindex.spec.models import FetchSpec


def _refusal(url: str, **rules: object) -> str:
    with pytest.raises(ProblemError) as caught:
        FetchPolicy(FetchSpec(**rules)).target_of(url)  # type: ignore[arg-type]
    assert caught.value.type is ProblemType.FETCH_REFUSED
    return caught.value.detail


def _may_reach(
    address: str, host: str = "images.internal", port: int = 443, allow: tuple[str, ...] = ()
) -> bool:
    try:
        FetchPolicy(FetchSpec(allow_hosts=allow)).check_addresses(host, port, [ip_address(address)])
    except ProblemError as problem:
        assert problem.type is ProblemType.FETCH_REFUSED  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "gopher://example.com/",
        "data:image/png;base64,AAAA",
        "//example.com/a.png",
        "example.com/a.png",
        "http:///a.png",
        "http://",
        "",
        "http://exa mple.com/",
        "http://example.com:99999/",
        "http://example.com\n.evil.com/",
        "http://[::1/",
        "http://[not-an-address]/",
        "http://" + "a" * 64 + ".com/",
        "http://-.com/",
        "http://a..b/",
        "http://example.com/" + "a" * 5000,
    ],
)
def test_what_is_not_a_plain_web_url_is_refused(url: str) -> None:
    """Other schemes, missing hosts and malformed URLs never get as far as a name server."""
    assert _refusal(url)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "127.0.0.1.",
        "0",
        "0x",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
    ],
)
def test_numeric_spellings_are_refused_or_read_as_the_address(host: str) -> None:
    """What some resolvers take for an address is either refused or seen to be a loopback address."""
    policy = FetchPolicy(FetchSpec())
    try:
        target = policy.target_of(f"http://{host}/")
    except ProblemError as problem:
        assert problem.type is ProblemType.FETCH_REFUSED  # noqa: PT017
    else:
        assert target.host == "127.0.0.1"


@pytest.mark.parametrize(
    "url",
    [
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://example.com@127.0.0.1/",
        "http://:@example.com/",
    ],
)
def test_credentials_in_the_url_are_refused(url: str) -> None:
    """Nobody's password is sent, and no host hides behind one."""
    detail = _refusal(url)
    assert "user name or password" in detail
    assert "secret" not in detail


@pytest.mark.parametrize("url", ["http://good.com\\@127.0.0.1/", "http://127.0.0.1\\.good.com/"])
def test_hosts_that_parsers_disagree_on_are_refused(url: str) -> None:
    """Backslashes do not get a second reading."""
    assert _refusal(url)


@pytest.mark.parametrize("port", [22, 6379, 8080, 0])
def test_only_listed_ports_pass(port: int) -> None:
    """A port that is not allowed is named together with the field that would allow it."""
    assert f"port {port}" in _refusal(f"http://example.com:{port}/")
    assert "fetch.ports" in _refusal(f"http://example.com:{port}/")


def test_schemes_can_be_narrowed() -> None:
    """`https` alone is a choice an operator may make."""
    assert "fetch.schemes" in _refusal("http://example.com/", schemes=("https",))


def test_fetching_can_be_switched_off() -> None:
    """The message says what to do instead."""
    assert "fetch.enabled" in _refusal("https://example.com/", enabled=False)


def test_international_names_are_encoded() -> None:
    """The host is the ASCII form that is resolved, and spelling variants are one host."""
    assert FetchPolicy(FetchSpec()).target_of("https://BÜCHER.example/a").host == "xn--bcher-kva.example"
    assert FetchPolicy(FetchSpec()).target_of("https://Example.COM./a").host == "example.com"


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]"])
def test_address_literals_are_read_as_addresses(host: str) -> None:
    """IPv6 literals pass as targets here and are judged by address like every other."""
    target = FetchPolicy(FetchSpec()).target_of(f"http://{host}/")
    assert not _may_reach(target.host, target.host, target.port)


def test_zones_are_refused() -> None:
    """An interface of this machine is nothing a caller may choose."""
    assert _refusal("http://[fe80::1%25eth0]/")


def test_without_exceptions_only_public_addresses_pass() -> None:
    """The default opens nothing private."""
    assert _may_reach("93.184.216.34")
    assert not _may_reach("10.0.0.1")
    assert not _may_reach("::ffff:10.0.0.1")
    assert not _may_reach("169.254.169.254")


def test_one_bad_address_condemns_the_host() -> None:
    """A host that also resolves to a private address is refused whole, and the address is not told."""
    addresses = [ip_address("93.184.216.34"), ip_address("10.11.12.13")]
    with pytest.raises(ProblemError, match=r"fetch\.allowHosts") as caught:
        FetchPolicy(FetchSpec()).check_addresses("mixed.example", 443, addresses)
    assert "10.11" not in str(caught.value.document())


def test_a_named_host_may_be_private_but_never_special() -> None:
    """`host` opens private addresses of this host on the usual ports; link-local and metadata stay closed."""
    allow = ("images.internal",)
    assert _may_reach("10.0.0.1", allow=allow)
    assert _may_reach("127.0.0.1", allow=allow)
    assert not _may_reach("10.0.0.1", host="other.internal", allow=allow)
    assert not _may_reach("169.254.1.1", allow=allow)
    assert not _may_reach("169.254.169.254", allow=allow)
    assert not _may_reach("fd00:ec2::254", allow=allow)


def test_a_host_with_a_port_opens_that_port_alone() -> None:
    """`host:port` opens the port too, for that host only."""
    allow = ("images.internal:9000",)
    assert _may_reach("10.0.0.1", port=9000, allow=allow)
    assert not _may_reach("10.0.0.1", port=443, allow=allow)
    policy = FetchPolicy(FetchSpec(allow_hosts=allow))
    assert policy.target_of("http://IMAGES.internal:9000/a").port == 9000
    with pytest.raises(ProblemError):
        policy.target_of("http://example.com:9000/a")


def test_a_block_opens_its_addresses_for_every_host() -> None:
    """A CIDR block opens what it covers, in every notation, but never a metadata service."""
    allow = ("10.1.0.0/16", "169.254.0.0/16", "fd12::/16")
    assert _may_reach("10.1.2.3", host="any.example", allow=allow)
    assert _may_reach("::ffff:10.1.2.3", host="any.example", allow=allow)
    assert _may_reach("169.254.1.1", allow=allow)
    assert _may_reach("fd12::1", allow=allow)
    assert not _may_reach("10.2.0.1", allow=allow)
    assert not _may_reach("169.254.169.254", allow=allow)


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "http://a.example", "a.example/path", "user@a.example", "", "127.1", "a b"]
)
def test_an_exception_that_cannot_be_understood_is_an_error(entry: str) -> None:
    """A typing error never opens more, or less, than was meant without notice."""
    with pytest.raises(ProblemError, match=r"fetch\.allowHosts entry"):
        FetchPolicy(FetchSpec(allow_hosts=(entry,)))
