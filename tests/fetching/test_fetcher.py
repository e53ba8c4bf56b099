"""Fetching from real servers: what comes back, and what hostile hosts, redirects and name servers cannot do."""

import asyncio
import itertools
import ssl
import time
from typing import TYPE_CHECKING

import pytest
import trustme

from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching import Fetched, SafeFetcher, SystemResolver
from visualindex.spec.models import FetchSpec, LimitsSpec

if TYPE_CHECKING:
    from conftest import OpenFetcher, OpenSite, ScriptedResolver, Site

PICTURE = b"\x89PNG and so on"


async def _fetch(fetcher: SafeFetcher, url: str) -> Fetched:
    return await fetcher.fetch(url, deadline=time.monotonic() + 60)


async def _problem(fetcher: SafeFetcher, url: str, type_: ProblemType) -> str:
    with pytest.raises(ProblemError) as caught:
        await _fetch(fetcher, url)
    assert caught.value.type is type_
    return caught.value.detail


async def _failure(fetcher: SafeFetcher, url: str) -> str:
    return await _problem(fetcher, url, ProblemType.FETCH_FAILED)


async def _refusal(fetcher: SafeFetcher, url: str) -> str:
    return await _problem(fetcher, url, ProblemType.FETCH_REFUSED)


@pytest.fixture
def named(site: "Site", resolver: "ScriptedResolver") -> str:
    """`pictures.internal:PORT`: a private host that an operator may allow."""
    resolver.answers["pictures.internal"] = [["127.0.0.1"]]
    return f"pictures.internal:{site.port}"


@pytest.fixture
def fetcher(named: str, open_fetcher: "OpenFetcher") -> SafeFetcher:
    """Allows the test's own server by name and nothing else that is private."""
    return open_fetcher(allow_hosts=(named,), timeout_ms=20_000)


class TestPlainFetch:
    async def test_a_picture_comes_back_with_its_type(
        self, site: "Site", named: str, fetcher: SafeFetcher
    ) -> None:
        """Body, media type without parameters, and the URL."""
        site.reply("/a.png?size=2", PICTURE, headers="Content-Type: Image/PNG; charset=x\r\n")
        fetched = await _fetch(fetcher, f"http://{named}/a.png?size=2")
        assert fetched == Fetched(PICTURE, "image/png", f"http://{named}/a.png?size=2")

    async def test_the_request_carries_nothing_but_itself(
        self, site: "Site", named: str, fetcher: SafeFetcher
    ) -> None:
        """The Host header is the name, and there are no cookies, credentials or referrers, also not later."""
        site.reply("/a", PICTURE, headers="set-cookie: session=1\r\n")
        await _fetch(fetcher, f"http://{named}/a")
        await _fetch(fetcher, f"http://{named}/a")
        for request in site.requests:
            names = [line.partition(":")[0].lower() for line in request.split("\r\n")[1:] if line]
            assert sorted(names) == ["accept", "accept-encoding", "connection", "host", "user-agent"]
            assert f"Host: {named}\r\n" in request

    async def test_proxies_of_the_environment_are_ignored(
        self,
        site: "Site",
        named: str,
        open_site: "OpenSite",
        open_fetcher: "OpenFetcher",
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A proxy would connect wherever it likes, past every check."""
        proxy = await open_site()
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        site.reply("/a", PICTURE)
        fetched = await _fetch(open_fetcher(allow_hosts=(named,)), f"http://{named}/a")
        assert fetched.data == PICTURE
        assert proxy.connections == 0

    async def test_many_fetches_run_at_once(self, site: "Site", named: str, fetcher: SafeFetcher) -> None:
        """A hundred fetches share the fetcher and none gets another's body."""
        for number in range(100):
            site.reply(f"/{number}", b"%d" % number)
        fetched = await asyncio.gather(
            *(_fetch(fetcher, f"http://{named}/{number}") for number in range(100))
        )
        assert [one.data for one in fetched] == [b"%d" % number for number in range(100)]

    @pytest.mark.parametrize(
        "status", ["404 Not Found", "204 No Content", "206 Partial", "304 Not Modified", "500 No"]
    )
    async def test_any_status_but_200_is_a_failure(
        self, site: "Site", named: str, fetcher: SafeFetcher, status: str
    ) -> None:
        """The status is in the message."""
        site.reply("/a", status=status)
        assert status.split(" ")[0] in await _failure(fetcher, f"http://{named}/a")


class TestForbiddenHosts:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost"]
    )
    async def test_no_spelling_of_this_machine_is_reached(self, open_site: "OpenSite", host: str) -> None:
        """With the system's own resolver and the port allowed, the server never sees a connection."""
        site = await open_site()
        fetcher = SafeFetcher(FetchSpec(ports=(site.port,)), LimitsSpec(), SystemResolver())
        try:
            assert "not public" in await _refusal(fetcher, f"http://{host}:{site.port}/")
        finally:
            await fetcher.close()
        assert site.connections == 0

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",  # noqa: S104 - judged, not bound
            "224.0.0.1",
            "fe80::1",
            "fd00::1",
            "64:ff9b::a00:1",
        ],
    )
    async def test_a_name_for_a_private_address_is_refused(
        self, resolver: "ScriptedResolver", open_fetcher: "OpenFetcher", address: str
    ) -> None:
        """What counts is where the name leads; the message does not tell where that is."""
        resolver.answers["harmless.example"] = [[address]]
        detail = await _refusal(open_fetcher(), "https://harmless.example/a.png")
        assert "harmless.example" in detail
        assert "fetch.allowHosts" in detail
        assert address not in detail

    async def test_one_private_address_among_public_ones_is_enough(
        self, resolver: "ScriptedResolver", open_fetcher: "OpenFetcher"
    ) -> None:
        """A mixed answer is refused before any connection."""
        resolver.answers["mixed.example"] = [["93.184.216.34", "10.0.0.1"]]
        assert "not public" in await _refusal(open_fetcher(), "https://mixed.example/")

    async def test_a_refused_url_asks_no_name_server(
        self, resolver: "ScriptedResolver", open_fetcher: "OpenFetcher"
    ) -> None:
        """Scheme, port and credentials are judged first."""
        for url in ("ftp://a.example/", "http://a.example:22/", "http://user@a.example/"):
            await _refusal(open_fetcher(), url)
        assert resolver.asked == []

    async def test_an_unknown_name_is_a_failure(self, open_fetcher: "OpenFetcher") -> None:
        """Not resolving is the caller's mistake, not a forbidden host."""
        assert "nowhere.example does not resolve" in await _failure(open_fetcher(), "http://nowhere.example/")


class TestRebinding:
    async def test_the_checked_address_is_the_one_connected_to(
        self, open_site: "OpenSite", resolver: "ScriptedResolver", open_fetcher: "OpenFetcher"
    ) -> None:
        """A name is resolved once per connection: the second, different answer is never asked for."""
        first = await open_site(address="127.0.0.1")
        second = await open_site(address="127.0.0.2", port=first.port)
        first.reply("/a", b"first")
        second.reply("/a", b"second")
        resolver.answers["changing.internal"] = [["127.0.0.1"], ["127.0.0.2"]]
        fetcher = open_fetcher(allow_hosts=("127.0.0.1/32",), ports=(first.port,))
        fetched = await _fetch(fetcher, f"http://changing.internal:{first.port}/a")
        assert fetched.data == b"first"
        assert resolver.asked == ["changing.internal"]
        assert second.connections == 0

    async def test_every_new_connection_is_checked_again(
        self, open_site: "OpenSite", resolver: "ScriptedResolver", open_fetcher: "OpenFetcher"
    ) -> None:
        """A name that turns inward between two fetches, or between a request and its redirect, is refused."""
        first = await open_site(address="127.0.0.1")
        second = await open_site(address="127.0.0.2", port=first.port)
        first.redirect("/a", "/b")
        second.reply("/b", b"inside")
        resolver.answers["changing.internal"] = [["127.0.0.1"], ["127.0.0.2"]]
        fetcher = open_fetcher(allow_hosts=("127.0.0.1/32",), ports=(first.port,))
        assert "not public" in await _refusal(fetcher, f"http://changing.internal:{first.port}/a")
        assert first.connections == 1
        assert second.connections == 0

    async def test_an_address_that_does_not_answer_gives_way_to_the_next(
        self, site: "Site", resolver: "ScriptedResolver", open_fetcher: "OpenFetcher"
    ) -> None:
        """All addresses were checked, so any of them may serve."""
        site.reply("/a", PICTURE)
        resolver.answers["several.internal"] = [["127.0.0.9", "127.0.0.1"]]
        fetcher = open_fetcher(allow_hosts=(f"several.internal:{site.port}",))
        assert (await _fetch(fetcher, f"http://several.internal:{site.port}/a")).data == PICTURE


class TestRedirects:
    @pytest.mark.parametrize(
        "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
    )
    async def test_redirects_are_followed(
        self, site: "Site", named: str, fetcher: SafeFetcher, status: str
    ) -> None:
        """Relative and absolute; the final URL is reported."""
        site.redirect("/a", "b/c", status)
        site.redirect("/b/c", f"http://{named}/d", status)
        site.reply("/d", PICTURE)
        fetched = await _fetch(fetcher, f"http://{named}/a")
        assert (fetched.data, fetched.final_url) == (PICTURE, f"http://{named}/d")

    @pytest.mark.parametrize(
        "location",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://0x7f000001/",
            "http://inside.example/",
            "//127.0.0.1/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_FLUSHALL",
            "http://user:password@93.184.216.34/",
            "http://93.184.216.34:22/",
            "http://[broken/",
            "",
        ],
    )
    async def test_a_redirect_is_judged_like_any_url(
        self, site: "Site", named: str, fetcher: SafeFetcher, resolver: "ScriptedResolver", location: str
    ) -> None:
        """A permitted host cannot send the service where it may not go itself."""
        resolver.answers["inside.example"] = [["10.0.0.1"]]
        site.redirect("/a", location)
        with pytest.raises(ProblemError) as caught:
            await _fetch(fetcher, f"http://{named}/a")
        wanted = ProblemType.FETCH_REFUSED if location else ProblemType.FETCH_FAILED
        assert caught.value.type is wanted

    async def test_redirects_are_counted(self, site: "Site", named: str, open_fetcher: "OpenFetcher") -> None:
        """Two are followed when two are allowed; a loop ends."""
        site.redirect("/1", "/2")
        site.redirect("/2", "/3")
        site.reply("/3", PICTURE)
        site.redirect("/loop", "/loop")
        assert (
            await _fetch(open_fetcher(allow_hosts=(named,), max_redirects=2), f"http://{named}/1")
        ).data == PICTURE
        assert "fetch.maxRedirects" in await _failure(
            open_fetcher(allow_hosts=(named,), max_redirects=1), f"http://{named}/1"
        )
        before = len(site.requests)
        await _failure(open_fetcher(allow_hosts=(named,), max_redirects=5), f"http://{named}/loop")
        assert len(site.requests) - before == 6


class TestBounds:
    async def test_a_body_of_exactly_the_limit_passes(
        self, site: "Site", named: str, open_fetcher: "OpenFetcher"
    ) -> None:
        """The limit itself is allowed, one byte more is not."""
        fetcher = open_fetcher(allow_hosts=(named,), image_bytes=1000)
        site.reply("/fits", bytes(1000))
        site.reply("/over", bytes(1001))
        assert len((await _fetch(fetcher, f"http://{named}/fits")).data) == 1000
        assert "limits.imageBytes" in await _failure(fetcher, f"http://{named}/over")

    @pytest.mark.parametrize("length", [str(10**12), "1" * 400, "-1", "1e3"])
    async def test_a_declared_length_is_judged_before_the_body(
        self, site: "Site", named: str, open_fetcher: "OpenFetcher", length: str
    ) -> None:
        """A server that announces too much or nonsense need not send it to be refused."""
        held = asyncio.Event()

        async def announce(writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n".encode())
            await writer.drain()
            await held.wait()

        site.answers["/a"] = announce
        await _failure(open_fetcher(allow_hosts=(named,), timeout_ms=60_000), f"http://{named}/a")
        held.set()

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_an_endless_body_ends_at_the_limit(
        self, site: "Site", named: str, open_fetcher: "OpenFetcher", chunked: bool
    ) -> None:
        """Without a declared length the body is counted, and the connection is dropped soon after the limit."""
        sent = 0

        async def endless(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(
                b"HTTP/1.1 200 OK\r\n" + (b"transfer-encoding: chunked\r\n" if chunked else b"") + b"\r\n"
            )
            piece = b"10000\r\n" + bytes(65536) + b"\r\n" if chunked else bytes(65536)
            while True:
                writer.write(piece)
                await writer.drain()
                sent += 65536

        site.answers["/a"] = endless
        assert "limits.imageBytes" in await _failure(
            open_fetcher(allow_hosts=(named,), image_bytes=300_000, timeout_ms=60_000), f"http://{named}/a"
        )
        await site.finish()
        assert 300_000 <= sent < 64 * 1024**2

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
    async def test_a_server_that_drips_runs_out_of_time(
        self, site: "Site", named: str, open_fetcher: "OpenFetcher", start: bytes
    ) -> None:
        """One byte now and then, in status line, headers or body, does not extend the time of the whole fetch."""

        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(start)
            for byte in itertools.cycle(b"x-filler: 1\r\n"):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)

        site.answers["/a"] = drip
        detail = await _failure(open_fetcher(allow_hosts=(named,), timeout_ms=200), f"http://{named}/a")
        assert "took too long" in detail or not start
        await site.finish()

    async def test_the_callers_deadline_counts_too(
        self, site: "Site", named: str, fetcher: SafeFetcher
    ) -> None:
        """A deadline nearer than `fetch.timeoutMs` ends the fetch."""
        held = asyncio.Event()

        async def silent(_: asyncio.StreamWriter) -> None:
            await held.wait()

        site.answers["/a"] = silent
        with pytest.raises(ProblemError, match="took too long"):
            await fetcher.fetch(f"http://{named}/a", deadline=asyncio.get_running_loop().time() + 0.05)
        held.set()

    @pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "unknown"])
    async def test_encoded_bodies_are_not_decoded(
        self, site: "Site", named: str, fetcher: SafeFetcher, encoding: str
    ) -> None:
        """A compressed bomb is not even opened."""
        site.reply("/a", PICTURE, headers=f"content-encoding: {encoding}\r\n")
        assert "encoded body" in await _failure(fetcher, f"http://{named}/a")

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"not http at all\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nlonger",
            b"HTTP/1.1 200 OK\r\n" + b"x-many: headers\r\n" * 50_000 + b"\r\n",
        ],
    )
    async def test_broken_answers_are_failures(
        self, site: "Site", named: str, fetcher: SafeFetcher, answer: bytes
    ) -> None:
        """A torn body, contradicting lengths, endless headers or no HTTP at all never pass for a picture."""

        async def broken(writer: asyncio.StreamWriter) -> None:
            writer.write(answer)

        site.answers["/a"] = broken
        assert "could not be read from" in await _failure(fetcher, f"http://{named}/a")

    async def test_a_closed_port_is_a_failure(
        self, named: str, resolver: "ScriptedResolver", open_fetcher: "OpenFetcher"
    ) -> None:
        """Nothing listens there; the address stays untold."""
        resolver.answers["closed.internal"] = [["127.0.0.9"]]
        port = named.partition(":")[2]
        detail = await _failure(
            open_fetcher(allow_hosts=(f"closed.internal:{port}",)), f"http://closed.internal:{port}/"
        )
        assert "no connection" in detail
        assert "127.0.0.9" not in detail


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        """A certificate authority of the test's own."""
        return trustme.CA()

    @pytest.fixture
    def trusting(self, authority: trustme.CA) -> ssl.SSLContext:
        """A client context that trusts only that authority."""
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    async def _serve(
        self, open_site: "OpenSite", authority: trustme.CA, certified: str, asked: list[str | None]
    ) -> "Site":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(certified).configure_cert(context)
        context.sni_callback = lambda _socket, name, _context: asked.append(name)
        site = await open_site(tls=context)
        site.reply("/a", PICTURE)
        return site

    async def test_the_name_is_verified_although_an_address_is_dialled(
        self,
        open_site: "OpenSite",
        open_fetcher: "OpenFetcher",
        resolver: "ScriptedResolver",
        authority: trustme.CA,
        trusting: ssl.SSLContext,
    ) -> None:
        """SNI and certificate check use the host name of the URL."""
        asked: list[str | None] = []
        site = await self._serve(open_site, authority, "pictures.internal", asked)
        resolver.answers["pictures.internal"] = [["127.0.0.1"]]
        host = f"pictures.internal:{site.port}"
        fetched = await _fetch(open_fetcher(allow_hosts=(host,), tls=trusting), f"https://{host}/a")
        assert fetched.data == PICTURE
        assert asked == ["pictures.internal"]

    async def test_a_certificate_for_another_name_is_a_failure(
        self,
        open_site: "OpenSite",
        open_fetcher: "OpenFetcher",
        resolver: "ScriptedResolver",
        authority: trustme.CA,
        trusting: ssl.SSLContext,
    ) -> None:
        """A host cannot pose as another, and no request is sent to it."""
        site = await self._serve(open_site, authority, "other.internal", [])
        resolver.answers["pictures.internal"] = [["127.0.0.1"]]
        host = f"pictures.internal:{site.port}"
        assert "certificate" in await _failure(
            open_fetcher(allow_hosts=(host,), tls=trusting), f"https://{host}/a"
        )
        assert site.requests == []

    async def test_an_unknown_authority_is_a_failure(
        self,
        open_site: "OpenSite",
        open_fetcher: "OpenFetcher",
        resolver: "ScriptedResolver",
        authority: trustme.CA,
    ) -> None:
        """By default only the public authorities are trusted."""
        site = await self._serve(open_site, authority, "pictures.internal", [])
        resolver.answers["pictures.internal"] = [["127.0.0.1"]]
        host = f"pictures.internal:{site.port}"
        assert "certificate" in await _failure(open_fetcher(allow_hosts=(host,)), f"https://{host}/a")
