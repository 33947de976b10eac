"""The guard at the socket: however an address is written, and whatever a name's servers answer."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import httpcore2
import pytest
import trio
import trio.testing

from p2pcap.errors import ImageError, ImageUnavailable, SourceError
from p2pcap.project.records import FetchRules
from p2pcap.sources.files import Files
from p2pcap.sources.locations import HubFile, WebFile
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.web import guard
from p2pcap.sources.web.guard import Guard, is_public, places
from p2pcap.sources.web.limits import Limits
from tests.certificates import certified_for
from tests.sources.web_server import Connection, Request, WebServer, head, image, redirect

HASTE = Limits(connect=1.0, read=1.0, grace=2.0, pause=0.001, tries=1)
IMAGE = b"\xff\xd8\xff not one of theirs"
SECRET = b"\xff\xd8\xff what only this network may see"
PUBLIC = "93.184.216.34"
HUB_FILE = HubFile("datasets", "owner/name", "0" * 40, "a.jpg")

INSIDE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@asynccontextmanager
async def guarded(*hosts: str) -> AsyncIterator[Files]:
    async with open_files(None, Access(FetchRules(hosts=hosts, robots=False)), HASTE) as files:
        yield files


def code_of(url: str, *hosts: str) -> str:
    async def one() -> str:
        async with guarded(*hosts) as files:
            with pytest.raises(ImageError) as raised:
                await files.image(WebFile(url), 1_000)
            return raised.value.code

    return trio.run(one)


WAYS = ["127.0.0.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "0", "localhost", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", [*WAYS, "169.254.169.254", "[64:ff9b::7f00:1]", "[fe80::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_way_of_writing_an_address_leads_inside(host: str, scheme: str) -> None:
    assert code_of(f"{scheme}://{host}/a.jpg") == "bad-address"


@pytest.mark.parametrize("host", WAYS)
def test_a_redirect_leads_inside_no_more_than_an_address(host: str) -> None:
    with WebServer() as inside, WebServer({"/a.jpg": redirect(f"http://{host}:{inside.port}/secret")}) as server:
        assert code_of(server.url("/a.jpg"), server.place) == "bad-address"
    assert not inside.requests
    assert inside.connections == 0


def test_a_port_that_is_not_the_webs(answers: Callable[..., None]) -> None:
    answers(PUBLIC)
    for port in (22, 25, 8080, 6379):
        assert code_of(f"http://images.example:{port}/a.jpg") == "bad-address"


@pytest.mark.parametrize("host", ["a" * 64 + ".example", ".example.com", "a..b", "xn--a"])
def test_what_can_be_no_name(host: str) -> None:
    assert code_of(f"https://{host}/a.jpg") in ("bad-address", "unreachable")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`answers(a, b)`: every name has the addresses a and b; `answers([a], [b])`: first a, then b for ever."""

    def set_answers(*found: str | Sequence[str]) -> None:
        each = [list(one) for one in found if not isinstance(one, str)] or [[str(one) for one in found]]

        async def lookup(_host: str, _port: int, _seconds: float) -> list[str]:
            now = each.pop(0) if len(each) > 1 else each[0]
            if not now:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return now

        monkeypatch.setattr(guard, "lookup", lookup)

    return set_answers


def test_a_name_that_means_a_machine_inside(answers: Callable[..., None]) -> None:
    answers("10.1.2.3")
    assert code_of("http://images.example/a.jpg") == "bad-address"


def test_one_address_inside_among_public_ones_is_enough(answers: Callable[..., None]) -> None:
    answers(PUBLIC, "127.0.0.1")
    assert code_of("http://images.example/a.jpg") == "bad-address"


def test_a_name_that_means_nothing(answers: Callable[..., None]) -> None:
    answers([])
    assert code_of("http://images.example/a.jpg") == "unreachable"


def test_a_name_is_asked_for_once_and_what_was_checked_is_connected_to(
    answers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebinding name: public when it is checked, this machine when it is asked for again."""
    answers([PUBLIC], ["127.0.0.1"])
    connected: list[str] = []

    async def connect(_: object, host: str, port: int, **__: object) -> None:
        connected.append(f"{host}:{port}")
        raise httpcore2.ConnectError("far away")

    monkeypatch.setattr(httpcore2.TrioBackend, "connect_tcp", connect)
    assert code_of("http://images.example/a.jpg") == "unreachable"
    assert connected == [f"{PUBLIC}:80"]
    assert code_of("http://images.example/a.jpg") == "bad-address"
    assert connected == [f"{PUBLIC}:80"]


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hangs(*_: object, **__: object) -> list[object]:
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    assert code_of("http://images.example/a.jpg") == "timeout"
    answered.set()


def resolver(monkeypatch: pytest.MonkeyPatch, port: int) -> tuple[list[str], threading.Event]:
    """Names that begin with "dead" are not answered for until the event, and then in the negative; others lead to this
    machine. The list has the names that were asked for."""
    asked: list[str] = []
    answered = threading.Event()

    def getaddrinfo(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if host.startswith("dead"):
            answered.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked, answered


def test_names_that_are_not_answered_for_do_not_keep_others_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer({"/a.jpg": image(IMAGE)}) as server:
        _, answered = resolver(monkeypatch, server.port)

        async def all_of_them() -> None:
            async with guarded(f"good.example:{server.port}") as files, trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(Guard().check, f"dead{number}.example", 80, 100.0)
                await trio.testing.wait_all_tasks_blocked(0.01)
                with trio.fail_after(20):
                    found = await files.image(WebFile(server.url("/a.jpg", "good.example")), 1_000)
                nursery.cancel_scope.cancel()
            assert found == IMAGE
            answered.set()

        trio.run(all_of_them)


def test_waiting_for_a_thread_is_not_waiting_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads are taken for longer than a name has time."""
    _, answered = resolver(monkeypatch, 80)
    monkeypatch.setattr(guard, "_resolvers", trio.CapacityLimiter(1))
    trusting = Guard(trusted=True)

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends_as, trusting, "dead.example", 0.05, "timeout")
            await trio.testing.wait_all_tasks_blocked(0.1)
            nursery.start_soon(trusting.check, "good.example", 80, 5.0)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(60.0)
            await trio.testing.wait_all_tasks_blocked()
            answered.set()

    clock = trio.testing.MockClock(rate=1.0)
    trio.run(both, clock=clock)


async def ends_as(asked: Guard, host: str, seconds: float, code: str) -> None:
    with pytest.raises(ImageUnavailable) as raised:
        await asked.check(host, 80, seconds)
    assert raised.value.code == code


@pytest.mark.parametrize("code", ["timeout", "unreachable"])
def test_a_name_that_led_nowhere_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    asked, answered = resolver(monkeypatch, 80)
    if code == "unreachable":
        answered.set()

    async def several() -> None:
        one = Guard()
        for _ in range(3):
            await ends_as(one, "dead.example", 0.05 if code == "timeout" else 5.0, code)
        assert asked == ["dead.example"]
        answered.set()
        clock.jump(guard.DEAD_SECONDS)
        await ends_as(one, "dead.example", 5.0, "unreachable")
        assert len(asked) == 2

    clock = trio.testing.MockClock(rate=1.0)
    trio.run(several, clock=clock)


def test_the_table_of_dead_names_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_host: str, _port: int, _seconds: float) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(guard, "lookup", nothing)
    one = Guard()

    async def many() -> None:
        for number in range(guard.MOST_DEAD + 10):
            await ends_as(one, f"dead{number}.example", 1.0, "unreachable")

    trio.run(many)
    assert len(one._dead) == guard.MOST_DEAD


def test_an_exception_is_for_the_host_as_it_is_written_and_for_no_other() -> None:
    with WebServer({"/a.jpg": image(IMAGE)}) as server:

        async def one() -> None:
            async with guarded(server.place) as files:
                assert await files.image(WebFile(server.url("/a.jpg")), 1_000) == IMAGE
                for other in ("localhost", "0x7f000001", "127.0.0.2"):
                    with pytest.raises(ImageError, match="bad-address"):
                        await files.image(WebFile(server.url("/a.jpg", other)), 1_000)

        trio.run(one)
    assert len(server.requests) == 1
    assert code_of(f"http://127.0.0.1:{server.port + 1}/a.jpg", server.place) == "bad-address"


def test_how_an_exception_may_be_written() -> None:
    assert places("Images.Example", 81) == ("images.example", "images.example", "images.example:81")
    assert places("::1", 81) == ("::1", "[::1]", "[::1]:81")
    assert Guard(("[::1]:81",)).excepts("::1", 81)
    assert not Guard(("[::1]:81",)).excepts("::1", 82)
    assert Guard(("NAS.example",)).excepts("nas.Example", 8_443)


def test_the_maintainer_plans_from_wherever_he_likes() -> None:
    with WebServer({"/a.jpg": image(IMAGE)}) as server:

        async def one() -> bytes:
            async with open_files(None, Access(FetchRules(robots=False), trusted=True), HASTE) as files:
                return await files.image(WebFile(server.url("/a.jpg")), 1_000)

        assert trio.run(one) == IMAGE


def test_a_hub_of_ones_own_opens_the_way_for_its_files_and_for_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even over a connection that the Hub's files left open."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = f"/datasets/owner/name/resolve/{'0' * 40}/a.jpg"
    with WebServer({path: image(IMAGE), "/admin": image(SECRET)}) as own:
        monkeypatch.setenv("HF_ENDPOINT", own.url(""))

        async def both() -> None:
            async with guarded() as files:
                assert await files.image(HUB_FILE, 1_000) == IMAGE
                with pytest.raises(ImageError, match="bad-address"):
                    await files.image(WebFile(own.url("/admin")), 1_000)

        trio.run(both)
    assert [request.path for request in own.requests] == [path]


def test_a_redirect_of_the_hub_leads_inside_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/datasets/owner/name/resolve/{'0' * 40}/a.jpg"
    with WebServer({"/secret": image(SECRET)}) as inside, WebServer({path: redirect(inside.url("/secret"))}) as own:
        monkeypatch.setenv("HF_ENDPOINT", own.url(""))

        async def one() -> None:
            async with guarded() as files:
                with pytest.raises(ImageError, match="bad-address"):
                    await files.image(HUB_FILE, 1_000)

        trio.run(one)
    assert not inside.requests


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A proxy of the environment, that has an image for every address."""

    def everything(_request: Request, connection: Connection) -> None:
        connection.send(head(200, {"Content-Length": str(len(IMAGE))}) + IMAGE)

    with WebServer(fallback=everything) as server:
        monkeypatch.setenv("http_proxy", server.url(""))
        monkeypatch.setenv("no_proxy", "direct.example")
        yield server


def test_a_proxy_is_used_for_what_is_public(proxy: WebServer, answers: Callable[..., None]) -> None:
    answers(PUBLIC)

    async def one() -> bytes:
        async with guarded() as files:
            return await files.image(WebFile("http://images.example/a.jpg"), 1_000)

    assert trio.run(one) == IMAGE
    assert [request.path for request in proxy.requests] == ["http://images.example/a.jpg"]


def test_a_proxy_is_not_asked_for_what_lies_inside(proxy: WebServer, answers: Callable[..., None]) -> None:
    answers("10.1.2.3")
    assert code_of("http://images.example/a.jpg") == "bad-address"
    assert code_of("http://169.254.169.254/latest") == "bad-address"
    answers([])
    assert code_of("http://images.example/a.jpg") == "unreachable"
    assert not proxy.requests


def test_a_proxy_may_know_the_hubs_name_where_this_machine_does_not(
    proxy: WebServer, answers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers([])
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")

    async def one() -> bytes:
        async with guarded() as files:
            return await files.image(HUB_FILE, 1_000)

    assert trio.run(one) == IMAGE


def test_what_no_proxy_names_is_reached_without_it(proxy: WebServer, answers: Callable[..., None]) -> None:
    answers("10.1.2.3")
    assert code_of("http://direct.example/a.jpg") == "bad-address"
    assert not proxy.requests


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1080", "ftp://proxy"])
def test_a_proxy_that_cannot_be_used_is_said_at_once(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", named)

    async def one() -> None:
        async with guarded():
            raise AssertionError

    with pytest.raises(SourceError, match="HTTPS_PROXY"):
        trio.run(one)


def test_a_name_with_a_dead_address_is_reached_at_its_other_one(answers: Callable[..., None]) -> None:
    with WebServer({"/a.jpg": image(IMAGE)}) as server:
        answers("127.1.2.3", "127.0.0.1")

        async def one() -> bytes:
            async with guarded(f"images.example:{server.port}") as files:
                return await files.image(WebFile(server.url("/a.jpg", "images.example")), 1_000)

        assert trio.run(one) == IMAGE


def test_a_guard_says_what_may_pass_as_such() -> None:
    with pytest.raises(ImageUnavailable, match="unreachable"):
        trio.run(Guard().check, "no-such-host.invalid", 80)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for images.example that this process trusts."""
    return certified_for("DNS:images.example", tmp_path, monkeypatch)


def test_the_certificate_has_to_be_the_names_and_not_the_addresss(
    certified: ssl.SSLContext, answers: Callable[..., None]
) -> None:
    answers("127.0.0.1")
    with WebServer({"/a.jpg": image(IMAGE)}, tls=certified) as server:

        async def both() -> None:
            async with guarded("images.example", "other.example") as files:
                place = WebFile(f"https://images.example:{server.port}/a.jpg")
                assert await files.image(place, 1_000) == IMAGE
                with pytest.raises(ImageError, match="unreachable"):
                    await files.image(WebFile(f"https://other.example:{server.port}/a.jpg"), 1_000)

        trio.run(both)
    assert len(server.requests) == 1
