"""Images from web servers that are slow, lie, break off, or are not servers of images at all."""

import gzip
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import httpcore2
import pytest
import trio
import trio.testing

from p2pcap.errors import ImageError, ImageResting, ImageUnavailable, SourceDenied
from p2pcap.project.records import FetchRules
from p2pcap.sources.files import Files
from p2pcap.sources.locations import WebFile
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.web.client import STEP, USER_AGENT
from p2pcap.sources.web.hosts import MOST_HOSTS, MOST_STRANGER, STRANGER, Busy, Host, Hosts
from p2pcap.sources.web.limits import Limits
from p2pcap.sources.web.pool import IDLE, Pool
from tests.sources.web_server import (
    Connection,
    Request,
    Route,
    WebServer,
    endless,
    head,
    image,
    in_turn,
    redirect,
    reply,
    resets,
    sends,
    stalls,
    together,
)

HASTE = Limits(connect=1.0, read=0.4, grace=2.0, pause=0.001, patience=2.0, rest=60.0)
IMAGE = b"\xff\xd8\xff" + bytes(range(256)) * 40
LIMIT = 1024 * 1024


@asynccontextmanager
async def opened(server: WebServer, limits: Limits = HASTE, robots: bool = False) -> AsyncIterator[Files]:
    rules = FetchRules(hosts=(server.place,), robots=robots)
    async with open_files(None, Access(rules), limits) as files:
        yield files


def fetch(server: WebServer, path: str = "/a.jpg", limit: int = LIMIT, limits: Limits = HASTE) -> bytes | ImageError:
    async def one() -> bytes | ImageError:
        async with opened(server, limits) as files:
            try:
                return await files.image(WebFile(server.url(path)), limit)
            except ImageError as error:
                return error

    return trio.run(one)


def code_of(route: Route, limit: int = LIMIT, limits: Limits = HASTE) -> tuple[str, bool]:
    """The code of the error that the route ends in, and whether it may pass."""
    with WebServer({"/a.jpg": route}) as server:
        error = fetch(server, limit=limit, limits=limits)
    assert isinstance(error, ImageError)
    return error.code, isinstance(error, ImageUnavailable)


def test_an_image_comes_as_it_is_and_we_say_who_asks() -> None:
    with WebServer({"/a.jpg": image(IMAGE)}) as server:
        assert fetch(server) == IMAGE
    (request,) = server.requests
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers
    assert "cookie" not in request.headers


def test_many_images_share_connections_and_no_cookies() -> None:
    with WebServer({"/a.jpg": image(IMAGE, {"Set-Cookie": "a=b"})}) as server:

        async def many() -> None:
            async with opened(server) as files:
                for _ in range(8):
                    assert await files.image(WebFile(server.url("/a.jpg")), LIMIT) == IMAGE

        trio.run(many)
        assert server.connections == 1
    assert not any("cookie" in request.headers for request in server.requests)


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    whole = head(200, {"Content-Length": str(len(IMAGE))}) + IMAGE
    with WebServer({"/a.jpg": sends(whole)}) as server:

        async def several() -> None:
            async with opened(server, replace(HASTE, tries=1)) as files:
                for number in range(4):
                    assert await files.image(WebFile(server.url("/a.jpg")), LIMIT) == IMAGE
                    server.wait_until_closed(number + 1)

        trio.run(several)
    assert server.connections == 4


def test_few_idle_connections_are_kept() -> None:
    """One for each of more hosts than are kept; nothing is closed as long as there is room."""

    async def idle_after(count: int) -> int:
        context = ssl.create_default_context()
        async with AsyncExitStack() as stack:
            pool = Pool(context, httpcore2.TrioBackend())
            stack.push_async_callback(pool.aclose)
            for _ in range(count):
                server = stack.enter_context(WebServer({"/a.jpg": image(IMAGE)}))
                response = await pool.handle_async_request(
                    httpcore2.Request("GET", server.url("/a.jpg"), headers={"Host": server.place})
                )
                await response.aread()
                await response.aclose()
            return len(pool)

    assert trio.run(idle_after, 3) == 3
    assert trio.run(idle_after, IDLE + 3) == IDLE


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (400, "refused", False),
        (401, "refused", False),
        (403, "refused", False),
        (404, "gone", False),
        (408, "server-error", True),
        (410, "gone", False),
        (429, "busy", True),
        (451, "refused", False),
        (500, "server-error", True),
        (503, "busy", True),
        (304, "refused", False),
    ],
)
def test_what_a_status_means(status: int, code: str, passes: bool) -> None:
    with WebServer({"/a.jpg": reply(b"why", status)}) as server:
        error = fetch(server)
    assert isinstance(error, ImageError)
    assert (error.code, isinstance(error, ImageUnavailable)) == (code, passes)
    assert server.asked("/a.jpg") == (HASTE.tries if passes else 1)


@pytest.mark.parametrize("kind", ["text/html", "TEXT/HTML; charset=utf-8", "application/json", "video/mp4"])
def test_something_else_that_says_so(kind: str) -> None:
    assert code_of(reply(IMAGE, headers={"Content-Type": kind})) == ("not-image", False)


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><p>gone", b"\xef\xbb\xbf\n <HTML>", b'{"error": 1}', b"<?xml ?>"])
def test_something_else_that_says_it_is_an_image(body: bytes) -> None:
    assert code_of(image(body)) == ("not-image", False)


def test_nothing_at_all() -> None:
    assert code_of(image(b"")) == ("empty", False)
    assert code_of(reply(b"", 204)) == ("empty", False)


@pytest.mark.parametrize(
    "start",
    [
        head(200, {"Content-Type": "image/png"}),
        head(200, {"Content-Type": "image/png", "Transfer-Encoding": "chunked"}),
        head(200, {"Content-Type": "image/png", "Content-Length": "99999999999"}),
    ],
    ids=["no length", "chunked", "a false length"],
)
def test_an_endless_image_stops_at_the_limit(start: bytes) -> None:
    body = b"10000\r\n" + bytes(0x10000) + b"\r\n" if b"chunked" in start else bytes(0x10000)
    with WebServer({"/a.jpg": endless(start, body)}) as server:
        error = fetch(server)
    assert isinstance(error, ImageError)
    assert (error.code, server.asked("/a.jpg")) == ("too-large", 1)
    assert server.sent["/a.jpg"] < 12 * LIMIT, "what the sockets hold and no more"


def test_a_length_that_is_too_large_is_not_waited_for() -> None:
    said = head(200, {"Content-Length": str(LIMIT + 1)})
    assert code_of(stalls(said)) == ("too-large", False)


def test_less_than_was_said() -> None:
    short = sends(head(200, {"Content-Length": str(len(IMAGE) + 1)}), IMAGE)
    with WebServer({"/a.jpg": short}) as server:
        error = fetch(server)
    assert isinstance(error, ImageError)
    assert (error.code, isinstance(error, ImageUnavailable)) == ("truncated", False)
    assert server.asked("/a.jpg") == HASTE.tries


def test_more_than_was_said() -> None:
    with WebServer({"/a.jpg": sends(head(200, {"Content-Length": str(len(IMAGE))}), IMAGE + b"more")}) as server:
        assert fetch(server) == IMAGE


def test_a_break_is_mended_by_asking_again() -> None:
    broken = sends(head(200, {"Content-Length": str(len(IMAGE))}), IMAGE[:100])
    reset = resets(head(200, {"Content-Length": str(len(IMAGE))}), IMAGE[:100])
    with WebServer({"/a.jpg": in_turn(broken, reset, image(IMAGE))}) as server:
        assert fetch(server) == IMAGE
    assert server.asked("/a.jpg") == 3


def test_resets_for_ever_may_pass_one_day() -> None:
    assert code_of(resets(head(200, {"Content-Length": "99"}), b"1")) == ("unreachable", True)
    assert code_of(resets()) == ("unreachable", True)


def test_a_server_that_says_nothing_and_one_that_stops() -> None:
    assert code_of(stalls()) == ("timeout", True)
    assert code_of(stalls(head(200, {"Content-Length": "99"}), b"12")) == ("timeout", True)


def test_a_server_that_drips_has_a_deadline_all_the_same() -> None:
    """Each byte comes in time, the whole does not."""

    def drips(_request: Request, connection: Connection) -> None:
        connection.send(head(200, {"Content-Length": "100000"}))
        while not dead.wait(0.02):
            connection.send(b"x")

    dead = threading.Event()
    with WebServer({"/a.jpg": drips}) as server:
        error = fetch(server, limits=replace(HASTE, grace=0.5, tries=1))
        dead.set()
    assert isinstance(error, ImageUnavailable)
    assert error.code == "timeout"
    assert server.sent["/a.jpg"] < 1_000


def test_a_body_in_crumbs_is_given_up() -> None:
    crumb = b"1\r\nx\r\n"
    start = head(200, {"Transfer-Encoding": "chunked"})
    assert code_of(endless(start, crumb * 1_000), limits=replace(HASTE, tries=1)) == ("server-error", True)


def test_a_flood_of_headers_and_what_is_no_http() -> None:
    assert code_of(endless(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"y" * 1_000 + b"\r\n")) == ("server-error", True)
    assert code_of(sends(b"SSH-2.0-OpenSSH_9.0\r\n\r\n")) == ("server-error", True)


def test_a_zip_bomb_in_the_encoding_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert code_of(image(bomb, {"Content-Encoding": "gzip"})) == ("undecodable", False)


def test_a_redirect_is_followed_and_a_circle_is_not() -> None:
    routes = {"/a.jpg": redirect("/b"), "/b": redirect("c.jpg", 301), "/c.jpg": image(IMAGE)}
    with WebServer(routes) as server:
        assert fetch(server) == IMAGE
    with WebServer({"/a.jpg": redirect("/b"), "/b": redirect("/a.jpg#again")}) as server:
        error = fetch(server)
    assert isinstance(error, ImageError)
    assert (error.code, len(server.requests)) == ("bad-redirect", 2)


def test_redirects_without_end() -> None:
    routes = {f"/{n}": redirect(f"/{n + 1}") for n in range(20)}
    with WebServer({"/a.jpg": redirect("/0"), **routes}) as server:
        error = fetch(server)
    assert isinstance(error, ImageError)
    assert (error.code, len(server.requests)) == ("bad-redirect", 1 + HASTE.redirects)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://example.com/a", "http://a:b@example.com/", "hf://"])
def test_a_redirect_out_of_the_web(to: str) -> None:
    assert code_of(redirect(to)) == ("bad-address", False)


def test_a_redirect_to_nowhere() -> None:
    assert code_of(reply(b"", 302)) == ("bad-redirect", False)


def test_a_host_that_is_busy_is_asked_again_when_it_said() -> None:
    busy = reply(b"", 429, {"Retry-After": "1"})
    with WebServer({"/a.jpg": in_turn(busy, image(IMAGE))}) as server:
        assert fetch(server) == IMAGE
    assert server.asked("/a.jpg") == 2


def test_a_host_that_wants_quiet_for_long_gets_it() -> None:
    """The second image is not asked for at all."""
    with WebServer({"/a.jpg": reply(b"", 503, {"Retry-After": "300"}), "/b.jpg": image(IMAGE)}) as server:

        async def two() -> None:
            async with opened(server) as files:
                with pytest.raises(ImageUnavailable, match="busy") as asked:
                    await files.image(WebFile(server.url("/a.jpg")), LIMIT)
                with pytest.raises(ImageResting, match="busy") as resting:
                    await files.image(WebFile(server.url("/b.jpg")), LIMIT)
                assert not isinstance(asked.value, ImageResting)
                assert 200 < resting.value.seconds <= 300

        trio.run(two)
    assert [request.path for request in server.requests] == ["/a.jpg"]


def test_an_image_that_led_to_a_host_that_rests_was_asked_for() -> None:
    with WebServer({"/a.jpg": reply(b"", 503, {"Retry-After": "300"})}) as there:
        with WebServer({"/b.jpg": redirect(there.url("/a.jpg"))}) as here:

            async def two() -> None:
                rules = FetchRules(hosts=(here.place, there.place), robots=False)
                async with open_files(None, Access(rules), HASTE) as files:
                    for _ in range(2):
                        with pytest.raises(ImageUnavailable, match="busy") as raised:
                            await files.image(WebFile(here.url("/b.jpg")), LIMIT)
                        assert not isinstance(raised.value, ImageResting)

            trio.run(two)
    assert (here.asked("/b.jpg"), there.asked("/a.jpg")) == (2, 1)


def test_an_image_that_was_asked_for_before_its_host_rested_had_its_try() -> None:
    """Others fail while it waits for its second try."""
    limits = replace(HASTE, pause=1.0, failures=2, tries=2)
    with WebServer({"/a.jpg": together(2, resets())}) as server:
        found: list[ImageUnavailable] = []

        async def one(files: Files) -> None:
            with pytest.raises(ImageUnavailable, match="unreachable") as raised:
                await files.image(WebFile(server.url("/a.jpg")), LIMIT)
            found.append(raised.value)

        async def three() -> None:
            async with opened(server, limits) as files, trio.open_nursery() as nursery:
                nursery.start_soon(one, files)
                nursery.start_soon(one, files)

        trio.run(three)
    assert len(server.requests) == 2
    assert not any(isinstance(error, ImageResting) for error in found)


async def rest_of(hosts: Hosts, error: ImageUnavailable | None = None) -> ImageUnavailable | None:
    """What is said to one who asks the host, and finds `error` there."""
    try:
        async with hosts.place("host", 80):
            if error is not None:
                raise error
    except ImageUnavailable as raised:
        return raised
    return None


def test_a_host_that_rests_again_and_again_is_not_waited_for_any_more() -> None:
    """Its images fail as if each had been asked for, or they would be wanted for ever."""

    async def long() -> list[bool]:
        hosts = Hosts(HASTE, trio.CapacityLimiter(64), lambda _host, _port: False)
        found = []
        for turn in range(HASTE.tries + 3):
            if turn == HASTE.tries + 2:
                await rest_of(hosts)  # one that goes well
            await rest_of(hosts, Busy(300.0))
            said = await rest_of(hosts)
            assert said is not None
            found.append(isinstance(said, ImageResting))
            await trio.sleep(300.0)
        return found

    assert trio.run(long, clock=trio.testing.MockClock(autojump_threshold=0)) == [True] * HASTE.tries + [False] * 2 + [
        True
    ]


def test_room_is_asked_for_as_an_image_comes() -> None:
    whole = IMAGE * 100
    asked: list[tuple[int, int]] = []

    async def reserve(size: int, expected: int = 0, /) -> None:
        asked.append((size, expected))

    for headers in ({"Content-Length": str(len(whole))}, {"Connection": "close"}):
        asked.clear()
        with WebServer({"/a.jpg": sends(head(200, headers), whole)}) as server:

            async def one() -> None:
                async with opened(server) as files:
                    assert await files.image(WebFile(server.url("/a.jpg")), LIMIT * 2, reserve) == whole

            trio.run(one)
        sizes = [size for size, _ in asked]
        assert sizes[0] == STEP
        assert all(0 < after - before <= STEP + 64 * 1024 for before, after in pairwise(sizes))
        assert {expected for _, expected in asked} == {len(whole) if "Content-Length" in headers else 0}


def test_what_broke_off_has_no_room_until_it_is_asked_for_again() -> None:
    held: list[int] = []

    async def reserve(size: int, _whole: int = 0, /) -> None:
        held.append(size)

    broken = sends(head(200, {"Content-Length": str(len(IMAGE))}), IMAGE[:100])
    with WebServer({"/a.jpg": in_turn(broken, image(IMAGE))}) as server:

        async def one() -> None:
            async with opened(server) as files:
                assert await files.image(WebFile(server.url("/a.jpg")), LIMIT, reserve) == IMAGE

        trio.run(one)
    assert held == [len(IMAGE), 0, len(IMAGE)]


def test_a_dead_host_costs_a_few_tries_and_not_some_for_each_image() -> None:
    with WebServer({"/a.jpg": resets()}) as server:

        async def many() -> None:
            async with opened(server) as files:
                for _ in range(20):
                    with pytest.raises(ImageUnavailable, match="unreachable"):
                        await files.image(WebFile(server.url("/a.jpg")), LIMIT)

        trio.run(many)
    assert len(server.requests) == HASTE.failures


def test_a_host_gets_few_places_until_it_earned_more() -> None:
    host = Host(STRANGER, MOST_STRANGER, False)
    assert host.limiter.total_tokens == STRANGER
    for _ in range(200):
        host.went_well()
    assert host.limiter.total_tokens == MOST_STRANGER
    host.went_badly(Busy(0.0), HASTE, 0.0)
    assert host.limiter.total_tokens == MOST_STRANGER // 2


def test_the_table_of_hosts_has_a_bound() -> None:
    async def many() -> Hosts:
        hosts = Hosts(HASTE, trio.CapacityLimiter(64), lambda _host, _port: False)
        for number in range(MOST_HOSTS + 10):
            async with hosts.place(f"host{number}", 80):
                pass
        return hosts

    assert len(trio.run(many)) == MOST_HOSTS


def test_no_more_than_64_requests_at_once() -> None:
    """To two hosts, each of which may come to as many; that both are this server lets it count them together."""
    enough = threading.Event()

    def together(_request: Request, connection: Connection) -> None:
        assert enough.wait(20)
        connection.send(head(200, {"Content-Length": str(len(IMAGE))}) + IMAGE)

    routes = {f"/{n}": image(IMAGE) for n in range(64)}
    with WebServer({**routes, "/together": together}) as server:
        hosts = ("127.0.0.1", "localhost")

        async def many() -> None:
            rules = FetchRules(hosts=tuple(f"{host}:{server.port}" for host in hosts), robots=False)
            async with open_files(None, Access(rules), replace(HASTE, read=20.0, grace=40.0)) as files:
                for host in hosts:
                    for path in routes:
                        await files.image(WebFile(server.url(path, host)), LIMIT)
                async with trio.open_nursery() as nursery:
                    for _ in range(64):
                        for host in hosts:
                            nursery.start_soon(files.image, WebFile(server.url("/together", host)), LIMIT)
                    await trio.testing.wait_all_tasks_blocked(0.2)
                    enough.set()

        trio.run(many)
    assert server.most == 64


def test_a_volunteer_who_keeps_out_of_private_networks_leaves_such_images_to_others() -> None:
    with WebServer({"/a.jpg": image(IMAGE)}) as server:

        async def one() -> None:
            rules = FetchRules(hosts=(server.place,))
            async with open_files(None, Access(rules, private_hosts=False), HASTE) as files:
                with pytest.raises(SourceDenied, match="private network"):
                    await files.image(WebFile(server.url("/a.jpg")), LIMIT)

        trio.run(one)
    assert not server.requests


def test_a_fetch_that_is_cancelled_gives_its_place_back() -> None:
    with WebServer({"/slow": stalls(head(200, {"Content-Length": "99"})), "/a.jpg": image(IMAGE)}) as server:

        async def one() -> None:
            async with opened(server) as files:
                for _ in range(100):
                    with trio.move_on_after(0.01):
                        await files.image(WebFile(server.url("/slow")), LIMIT)
                assert await files.image(WebFile(server.url("/a.jpg")), LIMIT) == IMAGE

        trio.run(one)
