"""A chunk of images that each have an address: all of them, each once, whatever becomes of the others."""

import hashlib
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import cast

import pytest
import trio
import trio.testing

from p2pcap.errors import (
    ImageError,
    ImageResting,
    ImageUnavailable,
    SourceDenied,
    SourceError,
    SourceGone,
    SourceUnavailable,
)
from p2pcap.project.items import Item
from p2pcap.project.records import FetchRules
from p2pcap.sources import addresses
from p2pcap.sources.addresses import REFUSED_SECONDS, in_turn
from p2pcap.sources.files import Files, Reserve
from p2pcap.sources.locations import Location, WebFile
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.room import SIZE, Room
from p2pcap.sources.web.limits import Limits
from tests.sources.web_server import Connection, Request, WebServer, head, image, redirect, reply, stalls

HASTE = Limits(connect=5.0, read=1.0, grace=2.0, pause=0.001, rest=60.0)
Got = dict[int, bytes | ImageError]


def picture(number: int) -> bytes:
    return b"\xff\xd8\xff" + hashlib.sha256(str(number).encode()).digest() * (1 + number % 50)


def items(*urls: str) -> dict[int, Item]:
    return {place: Item(f"image {place}", b"", 0, url) for place, url in enumerate(urls)}


def read(server: WebServer, wanted: dict[int, Item], rules: FetchRules | None = None) -> Got:
    """What `put` is given, each place once."""
    found: Got = {}

    async def put(place: int, given: bytes | ImageError) -> None:
        assert place not in found
        await trio.lowlevel.checkpoint()
        found[place] = given

    async def all_of_it() -> None:
        asked = rules or FetchRules(hosts=(server.place,), robots=False)
        async with open_files(None, Access(asked), HASTE) as files:
            await addresses.read(files, wanted, asked, put)

    trio.run(all_of_it)
    return found


def test_every_image_comes_once_and_in_its_place() -> None:
    with WebServer({f"/{n}": image(picture(n)) for n in range(300)}) as server:
        found = read(server, items(*(server.url(f"/{n}") for n in range(300))))
    assert found == {n: picture(n) for n in range(300)}
    assert sorted(request.path for request in server.requests) == sorted(f"/{n}" for n in range(300))


def test_one_image_that_fails_stops_no_other() -> None:
    odd = ["None", " null ", "NaN", " ", "n/a", "ftp://a/b", "hf://datasets/x", "/etc/passwd", "http://", "not a place"]
    routes = {"/gone": reply(b"", 404), "/slow": stalls(), "/circle": redirect("/circle"), "/page": reply(b"<html>")}
    with WebServer({**routes, "/good": image(picture(1))}) as server:
        urls = [*odd, *(server.url(path) for path in ("/gone", "/slow", "/circle", "/page")), server.url("/good")]
        found = read(server, items(*urls))
    codes = [each.code if isinstance(each, ImageError) else "image" for _, each in sorted(found.items())]
    assert codes == ["bad-address"] * len(odd) + ["gone", "timeout", "bad-redirect", "not-image", "image"]


def test_spaces_around_an_address_do_no_harm() -> None:
    with WebServer({"/a": image(picture(1))}) as server:
        assert read(server, items(f" {server.url('/a')}\n")) == {0: picture(1)}


def test_an_image_that_only_peers_could_have() -> None:
    with WebServer() as server:
        found = read(server, {3: Item("a", bytes(32), 5)})
    assert isinstance(found[3], ImageUnavailable)
    assert found[3].code == "unavailable"


def test_the_projects_limit_holds() -> None:
    with WebServer({"/a": image(bytes(1_001)), "/b": image(bytes(1_000))}) as server:
        rules = FetchRules(hosts=(server.place,), robots=False, image=1_000)
        found = read(server, items(server.url("/a"), server.url("/b")), rules)
    assert isinstance(found[0], ImageError)
    assert (found[0].code, found[1]) == ("too-large", bytes(1_000))


class Pictures:
    """Files that have every image, of `size` bytes; `told` says what becomes of some."""

    def __init__(self, size: int, told: dict[str, Exception] | None = None) -> None:
        self.size_of_each = size
        self.told = told or {}
        self.room = Room()
        self.asked: list[str] = []
        self.held = 0
        self.most = 0

    async def image(self, location: Location, limit: int, reserve: Reserve | None = None) -> bytes:
        self.asked.append(str(location))
        if (error := self.told.get(str(location))) is not None:
            await trio.lowlevel.checkpoint()
            raise error
        assert reserve is not None
        await trio.testing.wait_all_tasks_blocked()  # all have begun before the first one asks for room
        await reserve(self.size_of_each)
        self.held += 1
        self.most = max(self.most, self.held)
        await trio.lowlevel.checkpoint()
        return bytes(self.size_of_each)


def consume(files: Pictures, count: int, put: Callable[[int, bytes | ImageError], Awaitable[None]]) -> None:
    wanted = items(*(f"http://host{n % 7}/{n}" for n in range(count)))
    trio.run(addresses.read, cast(Files, files), wanted, FetchRules(), put)


def test_a_slow_taker_holds_the_memory_down() -> None:
    """Images of 4 MiB, while nobody takes the first one: it, and half of the room."""
    size = 4 * 1024 * 1024
    files = Pictures(size)

    async def put(_place: int, given: bytes | ImageError) -> None:
        assert isinstance(given, bytes)
        await trio.testing.wait_all_tasks_blocked()
        assert files.held * size <= SIZE // 2 + size
        files.held -= 1

    consume(files, 64, put)
    assert files.most == SIZE // 2 // size + 1


def test_what_this_machine_cannot_do_ends_the_chunk_as_it_is() -> None:
    async def put(_place: int, _given: bytes | ImageError) -> None:
        pass

    error = SourceError("The disk is full.")
    with pytest.raises(SourceError) as raised:
        consume(Pictures(10, {"http://host3/3": error}), 20, put)
    assert raised.value is error


def outcome(files: Pictures, wanted: dict[int, Item]) -> Got:
    """What `put` is given, each place once."""
    found: Got = {}

    async def put(place: int, given: bytes | ImageError) -> None:
        assert place not in found
        found[place] = given

    trio.run(addresses.read, cast(Files, files), wanted, FetchRules(), put)
    return found


@pytest.mark.parametrize("refused", [{0}, {5}, {299}, set(range(200)), set(range(299))])
def test_what_this_machine_may_not_read_is_left_to_others_and_ends_nothing(refused: set[int]) -> None:
    told: dict[str, Exception] = {f"http://host/{n}": SourceDenied("Set HF_TOKEN.") for n in refused}
    found = outcome(Pictures(10, told), items(*(f"http://host/{n}" for n in range(300))))
    assert {place for place, given in found.items() if given == bytes(10)} == set(range(300)) - refused
    for place in refused:
        error = found[place]
        assert isinstance(error, ImageResting)
        assert (error.code, error.seconds) == ("unavailable", REFUSED_SECONDS)


def test_when_this_machine_may_read_nothing_the_volunteer_is_told_why_and_nothing_is_said_of_images() -> None:
    told: dict[str, Exception] = {f"http://host/{n}": SourceDenied("Set HF_TOKEN.") for n in range(300)}
    found: Got = {}

    async def put(place: int, given: bytes | ImageError) -> None:
        found[place] = given

    wanted = items(*told, "none")
    with pytest.raises(SourceDenied, match="HF_TOKEN"):
        trio.run(addresses.read, cast(Files, Pictures(10, told)), wanted, FetchRules(), put)
    assert list(found) == [300], "the one without an address"


@pytest.mark.parametrize(
    ("error", "code"), [(SourceGone("It is gone."), "gone"), (SourceUnavailable("Not now."), "unavailable")]
)
def test_what_becomes_of_one_file_ends_nothing_else(error: SourceError, code: str) -> None:
    found = outcome(Pictures(10, {"http://host/1": error}), items(*(f"http://host/{n}" for n in range(3))))
    given = found.pop(1)
    assert isinstance(given, ImageError)
    assert (given.code, found) == (code, {0: bytes(10), 2: bytes(10)})


def test_many_addresses_are_looked_at_with_turns_for_others() -> None:
    """As often as another task gets a turn before the first image is asked for."""
    turns: list[int] = []

    async def others() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns.append(len(files.asked))

    async def all_of_it() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)

            async def put(_place: int, _given: bytes | ImageError) -> None:
                nursery.cancel_scope.cancel()

            wanted = items(*["http://host/a"] * 10_000)
            await addresses.read(cast(Files, files), wanted, FetchRules(), put)

    files = Pictures(10, {"http://host/a": ImageError("gone", "It is gone.")})
    trio.run(all_of_it)
    assert turns.count(0) >= 10_000 // addresses.PARSED


def test_an_error_of_the_taker_comes_out_alone() -> None:
    async def put(_place: int, _given: bytes | ImageError) -> None:
        raise LookupError("taker")

    with pytest.raises(LookupError, match="taker"):
        consume(Pictures(10), 20, put)


def test_the_taker_is_called_one_at_a_time() -> None:
    inside: list[int] = []

    async def put(place: int, _given: bytes | ImageError) -> None:
        inside.append(place)
        assert len(inside) == 1
        await trio.testing.wait_all_tasks_blocked()
        inside.clear()

    consume(Pictures(10), 40, put)


def test_hosts_take_turns() -> None:
    hosts = ["a", "a", "a", "a", "b", "c", "c"]
    places = {place: WebFile(f"http://{host}/{place}") for place, host in enumerate(hosts)}
    by_host: addresses.Hosts = {}
    for place, location in places.items():
        by_host.setdefault(location.host, []).append((place, location))
    assert [location.host for _, location in in_turn(by_host) if isinstance(location, WebFile)] == list("abcacaa")
    assert dict(in_turn(by_host)) == places


def test_a_slow_host_does_not_hold_up_the_others() -> None:
    """All images of the quick host come while the slow one has answered nothing yet."""
    quick_done = threading.Event()

    def waits(_request: Request, connection: Connection) -> None:
        assert quick_done.wait(10)
        connection.send(head(200, {"Content-Length": "4"}) + b"slow")

    with WebServer(fallback=waits) as slow, WebServer(fallback=image(b"quick")) as quick:
        hosts = (slow.place, quick.place)
        wanted = items(*(slow.url(f"/{n}") for n in range(100)), *(quick.url(f"/{n}") for n in range(100)))
        found: list[bytes] = []

        async def put(_place: int, given: bytes | ImageError) -> None:
            assert isinstance(given, bytes)
            found.append(given)
            if found.count(b"quick") == 20:
                quick_done.set()

        async def all_of_it() -> None:
            rules = FetchRules(hosts=hosts, robots=False)
            patient = Limits(read=10.0)
            async with open_files(None, Access(rules), patient) as files:
                await addresses.read(files, wanted, rules, put)

        trio.run(all_of_it)
    assert found[:20] == [b"quick"] * 20
    assert len(found) == 200


@pytest.mark.parametrize("length", [{"Content-Length": str(32 * 1024 * 1024)}, {}])
def test_a_few_slow_answers_do_not_keep_others_from_being_fetched(length: dict[str, str]) -> None:
    """Six that say that they are large, or do not say, and send next to nothing."""
    all_quick = threading.Event()

    def drips(_request: Request, connection: Connection) -> None:
        connection.send(head(200, length) + bytes(10))
        all_quick.wait(30)
        connection.close()

    with ExitStack() as stack:
        quick = stack.enter_context(WebServer(fallback=image(b"quick")))
        slow = [stack.enter_context(WebServer(fallback=drips)) for _ in range(3)]
        stack.callback(all_quick.set)
        hosts = (quick.place, *(server.place for server in slow))
        wanted = items(*(server.url(f"/{n}") for server in slow for n in range(2)), *[quick.url("/a")] * 300)
        found: list[bytes] = []

        async def put(_place: int, given: bytes | ImageError) -> None:
            if isinstance(given, bytes):
                found.append(given)
            if found.count(b"quick") == 300:
                all_quick.set()

        async def all_of_it() -> None:
            rules = FetchRules(hosts=hosts, robots=False)
            async with open_files(None, Access(rules), Limits(read=60.0, grace=60.0, tries=1)) as files:
                with trio.fail_after(25):
                    await addresses.read(files, wanted, rules, put)

        trio.run(all_of_it)
    assert found.count(b"quick") == 300
