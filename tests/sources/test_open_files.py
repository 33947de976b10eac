"""Files by location: exactly the bytes that were asked for, for as many requests and bytes as that takes."""

import io
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest
import trio

from p2pcap.errors import ImageError, SourceDenied, SourceError, SourceGone, SourceUnavailable
from p2pcap.project.records import FetchRules
from p2pcap.sources.files import MAX_PART, Files
from p2pcap.sources.locations import DataFile, HubFile, Location, WebFile
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.web.hub import LONGEST, MARGIN, UNKNOWN, good_for
from p2pcap.sources.web.limits import Limits
from p2pcap.sources.web.ranges import Part, content_range
from tests.sources.fake_hub import FakeHub
from tests.sources.web_server import (
    Route,
    WebServer,
    endless,
    file,
    head,
    in_turn,
    redirect,
    reply,
    sends,
    stalls,
)

HASTE = Limits(connect=5.0, read=1.0, grace=2.0, pause=0.001, rest=60.0)
BIG = os.urandom(3 * 1024 * 1024)
T = TypeVar("T")


def run(
    action: Callable[[Files], Coroutine[object, object, T]],
    server: WebServer | None = None,
    data: Path | None = None,
    private_hosts: bool = True,
) -> T:
    """What `action` gives for files of a server, or a folder."""

    async def inside() -> T:
        rules = FetchRules(hosts=(server.place,) if server else ())
        async with open_files(data, Access(rules, private_hosts), HASTE) as files:
            return await action(files)

    return trio.run(inside)


async def saved(files: Files, location: Location, start: int, length: int) -> bytes:
    whole = io.BytesIO()
    await files.save(location, start, length, whole)
    return whole.getvalue()


# On the web


def test_parts_of_a_file_cost_what_they_weigh() -> None:
    with WebServer({"/f": file(BIG, '"1"')}) as server:
        web = WebFile(server.url("/f"))

        async def several(files: Files) -> None:
            assert await files.size(web) == len(BIG)
            assert await files.read(web, 5, 100) == BIG[5:105]
            assert await files.read(web, 0, 0) == b""
            assert await saved(files, web, 1_000_000, 2_000_000) == BIG[1_000_000:3_000_000]
            async with files.stream(web, len(BIG) - 9, 9) as parts:
                assert b"".join([part async for part in parts]) == BIG[-9:]

        run(several, server)
    assert len(server.requests) == 4
    assert server.connections == 1
    assert server.sent["/f"] < 2_000_110 + 4 * 300
    assert server.asked("/robots.txt") == 0, "robots.txt is for images that lie about, not for data sets"


def test_what_breaks_off_goes_on_where_it_stopped() -> None:
    with WebServer({"/f": file(BIG, '"1"', breaks_after=1_200_000)}) as server:
        found = run(lambda files: saved(files, WebFile(server.url("/f")), 10, len(BIG) - 10), server)
    assert found == BIG[10:]
    assert len(server.requests) == 3
    assert server.requests[1].headers["if-range"] == '"1"'
    assert server.sent["/f"] < len(BIG) + 3 * 300, "nothing came twice"


def test_a_file_that_changes_meanwhile_is_gone() -> None:
    other = bytes(len(BIG))
    for after in (file(other, '"2"'), file(other), reply(other)):
        with WebServer({"/f": in_turn(file(BIG, '"1"', breaks_after=1_000), after)}) as server:
            with pytest.raises(SourceGone, match="changed"):
                run(lambda files: saved(files, WebFile(server.url("/f")), 0, len(BIG)), server)


def test_a_server_that_knows_no_parts_will_do_for_a_whole_file() -> None:
    with WebServer({"/f": reply(BIG)}) as server:
        web = WebFile(server.url("/f"))
        assert run(lambda files: files.size(web), server) == len(BIG)
        assert run(lambda files: saved(files, web, 0, len(BIG)), server) == BIG
        for start, length in ((1, len(BIG) - 1), (0, 10)):
            with pytest.raises(SourceUnavailable, match="no parts"):
                run(lambda files: saved(files, web, start, length), server)  # noqa: B023


PARTIAL = {"Content-Range": "bytes 0-9/100", "Content-Length": "10"}


@pytest.mark.parametrize(
    ("route", "error"),
    [
        (sends(head(206, {**PARTIAL, "Content-Range": "bytes 1-10/100"}), bytes(10)), SourceUnavailable),
        (sends(head(206, {**PARTIAL, "Content-Range": "bytes 0-8/100"}), bytes(10)), SourceUnavailable),
        (sends(head(206, {**PARTIAL, "Content-Range": "bytes 0-9/5"}), bytes(10)), SourceUnavailable),
        (sends(head(206, {**PARTIAL, "Content-Length": "11"}), bytes(11)), SourceUnavailable),
        (sends(head(206, {"Content-Length": "10"}), bytes(10)), SourceUnavailable),
        (sends(head(206, {"Content-Range": "bytes 0-9/100"}), bytes(11)), SourceGone),
        (sends(head(206, {"Content-Range": "bytes 0-4/5", "Content-Length": "5"}), bytes(5)), SourceGone),
        (sends(head(206, PARTIAL), bytes(9)), SourceUnavailable),
        (sends(head(200), bytes(9)), SourceUnavailable),
        (sends(head(200), bytes(11)), SourceGone),
        (endless(head(200), bytes(1_000)), SourceGone),
        (stalls(head(206, PARTIAL)), SourceUnavailable),
        (reply(b"", 416), SourceGone),
        (reply(b"", 404), SourceGone),
        (reply(b"", 410), SourceGone),
        (reply(b"", 403), SourceDenied),
        (reply(b"", 401), SourceDenied),
        (reply(b"", 429), SourceUnavailable),
        (reply(b"", 502), SourceUnavailable),
        (redirect("/f"), SourceUnavailable),
        (redirect("http://127.0.0.1:1/"), SourceDenied),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for(route: Route, error: type[SourceError]) -> None:
    with WebServer({"/f": route}) as server:
        with pytest.raises(SourceError) as raised:
            run(lambda files: files.read(WebFile(server.url("/f")), 0, 10), server)
    assert type(raised.value) is error
    assert "127.0.0.1" not in str(raised.value), "what travels in rows names no address"


def test_parts_that_end_early_are_asked_for_a_few_times() -> None:
    nothing = sends(head(206, {"Content-Range": "bytes 0-9/100", "Transfer-Encoding": "chunked"}), b"0\r\n\r\n")
    with WebServer({"/f": nothing}) as server:
        with pytest.raises(SourceUnavailable, match="less than it said"):
            run(lambda files: files.read(WebFile(server.url("/f")), 0, 10), server)
    assert len(server.requests) == HASTE.tries


def test_a_server_that_does_not_say_how_long_its_file_is() -> None:
    with WebServer({"/f": sends(head(200), b"abc")}) as server:
        with pytest.raises(SourceUnavailable, match="how long"):
            run(lambda files: files.size(WebFile(server.url("/f"))), server)


def test_an_empty_file_has_a_size() -> None:
    with WebServer({"/f": file(b"")}) as server:
        assert run(lambda files: files.size(WebFile(server.url("/f"))), server) == 0


def test_a_part_that_is_too_large_for_memory_is_refused() -> None:
    with WebServer() as server:
        with pytest.raises(SourceError, match="whole only up to"):
            run(lambda files: files.read(WebFile(server.url("/f")), 0, MAX_PART + 1), server)
    assert not server.requests


def test_a_full_disk_is_said(full_disk: Callable[[], AbstractContextManager[None]], tmp_path: Path) -> None:
    with WebServer({"/f": file(BIG)}) as server, (tmp_path / "kept").open("wb") as kept:

        async def save(files: Files) -> None:
            with full_disk():
                await files.save(WebFile(server.url("/f")), 0, len(BIG), kept)

        with pytest.raises(SourceError, match="Free some space"):
            run(save, server)
        kept.seek(0)
        kept.truncate()


def test_a_volunteer_who_keeps_out_of_private_networks_says_so() -> None:
    with WebServer({"/f": file(BIG)}) as server:
        with pytest.raises(SourceDenied, match="private network"):
            run(lambda files: files.size(WebFile(server.url("/f"))), server, private_hosts=False)
    assert not server.requests


def test_a_stream_that_is_left_early_leaves_nothing_behind() -> None:
    with WebServer({"/f": file(BIG)}) as server:

        async def some(files: Files) -> None:
            for _ in range(100):
                async with files.stream(WebFile(server.url("/f")), 0, len(BIG)) as parts:
                    async for part in parts:
                        assert len(part) <= 1024 * 1024
                        break

        run(some, server)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bytes 0-9/100", Part(0, 10, 100)),
        ("bytes 5-5/*", Part(5, 6, None)),
        ("bytes */7", Part(0, 0, 7)),
        ("bytes 9-3/100", None),
        ("bytes 0-100/100", None),
        ("items 0-9/100", None),
        ("bytes 0-9", None),
        ("bytes 0-" + "9" * 99 + "/*", None),
        ("", None),
    ],
)
def test_what_a_content_range_says(text: str, part: Part | None) -> None:
    assert content_range(text) == part


# On the Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {"data/a b#1%.parquet": BIG, "notes.jsonl": b'{"a": 1}\n', "a.jpg": b"\xff\xd8\xff image"}
    names = {"owner/name": files, "owner/gated": files}
    with FakeHub(names, gated=("owner/gated",), tokens=("hf_good",)) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def at(hub: FakeHub, path: str, repo: str = "owner/name") -> HubFile:
    return HubFile("datasets", repo, hub.revision(repo), path)


def test_a_range_of_a_hub_file_costs_one_request_once_its_place_is_known(hub: FakeHub) -> None:
    place = at(hub, "data/a b#1%.parquet")

    async def several(files: Files) -> None:
        assert await files.size(place) == len(BIG)
        before = len(hub.requests)
        assert await files.read(place, 100, 1_000) == BIG[100:1_100]
        assert await saved(files, place, 2_000, 900_000) == BIG[2_000:902_000]
        assert len(hub.requests) - before == 2

    run(several)
    assert hub.bytes_of("data/a b#1%.parquet") == 1 + 1_000 + 900_000


def test_a_place_that_is_not_good_any_more_is_asked_for_again(hub: FakeHub) -> None:
    place = at(hub, "data/a b#1%.parquet")

    async def twice(files: Files) -> None:
        assert await files.read(place, 0, 10) == BIG[:10]
        hub.expire()
        assert await files.read(place, 10, 10) == BIG[10:20]

    run(twice)


def test_small_files_and_images_of_the_hub(hub: FakeHub) -> None:
    async def both(files: Files) -> None:
        assert await files.size(at(hub, "notes.jsonl")) == 9
        assert await files.read(at(hub, "notes.jsonl"), 0, 9) == b'{"a": 1}\n'
        assert await files.image(at(hub, "a.jpg"), 1_000) == b"\xff\xd8\xff image"

    run(both)


def test_what_the_hub_has_not_is_gone(hub: FakeHub) -> None:
    async def both(files: Files) -> None:
        with pytest.raises(SourceGone):
            await files.size(at(hub, "data/other.parquet"))
        with pytest.raises(ImageError, match="gone"):
            await files.image(at(hub, "other.jpg"), 1_000)

    run(both)


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN"])
def test_gated_data_is_read_with_a_token(hub: FakeHub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hf_good")
    place = at(hub, "data/a b#1%.parquet", "owner/gated")
    assert run(lambda files: files.read(place, 7, 7)) == BIG[7:14]


def test_gated_data_without_a_token_says_what_to_do(hub: FakeHub) -> None:
    place = at(hub, "data/a b#1%.parquet", "owner/gated")

    async def each(files: Files) -> None:
        for ask in (lambda: files.size(place), lambda: files.image(place, 1_000)):
            with pytest.raises(SourceDenied) as raised:
                await ask()
            assert "HF_TOKEN" in str(raised.value)
            assert f"{hub.url}/datasets/owner/gated" in str(raised.value)

    run(each)


def test_the_token_does_not_go_along_with_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    path = f"/datasets/owner/name/resolve/{'0' * 40}/a.bin"
    with WebServer({"/there": file(BIG)}) as there, WebServer({path: redirect(there.url("/there"))}) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url(""))

        async def part() -> bytes:
            access = Access(FetchRules(), trusted=True)
            async with open_files(None, access, HASTE) as files:
                return await files.read(HubFile("datasets", "owner/name", "0" * 40, "a.bin"), 1, 4)

        assert trio.run(part) == BIG[1:5]
    assert here.requests[0].headers["authorization"] == "Bearer hf_good"
    assert "authorization" not in there.requests[0].headers
    assert there.requests[0].headers["range"] == "bytes=1-4"


def test_a_hub_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("ftp://hub", "hub.example", "http://"):
        monkeypatch.setenv("HF_ENDPOINT", named)
        with pytest.raises(SourceError, match="HF_ENDPOINT"):
            run(lambda files: files.size(HubFile("datasets", "a/b", "0" * 40, "c")))


def test_how_long_an_address_is_good_for() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    stamp = int(now.timestamp())
    signed = "X-Amz-Date=20260102T030305Z&X-Amz-Expires="
    cases = {
        f"Expires={stamp + 600}": 600 - MARGIN,
        f"Expires={stamp + 10**9}": LONGEST - MARGIN,
        f"Expires={stamp - 600}": 0.0,
        signed + "600": 600 - 60 - MARGIN,
        signed + "x": UNKNOWN,
        "X-Amz-Expires=600": UNKNOWN,
        "Expires=nan": 0.0,
        "Expires=soon": UNKNOWN,
        "": UNKNOWN,
    }
    assert {text: good_for(httpx2.URL(f"https://cdn.example/a?{text}"), now) for text in cases} == cases


# In the data folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "a b\n\U0001f600.jpg").write_bytes(BIG)
    (tmp_path / "secret").write_bytes(b"secret")
    (data / "out").symlink_to(tmp_path / "secret")
    (data / "up").symlink_to(tmp_path)
    (data / "in.jpg").symlink_to(data / "sub" / "a b\n\U0001f600.jpg")
    (data / "loop").symlink_to(data / "loop")
    os.mkfifo(data / "pipe")
    return data


def test_the_data_folder_is_read(folder: Path) -> None:
    async def several(files: Files) -> None:
        for name in ("sub/a b\n\U0001f600.jpg", "in.jpg"):
            there = DataFile(name)
            assert await files.size(there) == len(BIG)
            assert await files.read(there, 5, 10) == BIG[5:15]
            assert await saved(files, there, 1, 2_000_000) == BIG[1:2_000_001]
            assert await files.image(there, len(BIG)) == BIG
            with pytest.raises(ImageError, match="too-large"):
                await files.image(there, len(BIG) - 1)
            with pytest.raises(SourceGone):
                await files.read(there, len(BIG) - 5, 10)

    run(several, data=folder)


@pytest.mark.parametrize("name", ["out", "up/secret", "pipe", "sub", "none", "in.jpg/x", "x" * 300])
def test_nothing_outside_the_folder_and_nothing_but_files_is_read(folder: Path, name: str) -> None:
    async def each(files: Files) -> None:
        for ask in (lambda: files.size(DataFile(name)), lambda: files.read(DataFile(name), 0, 1)):
            with pytest.raises(SourceError) as raised:
                await ask()
            assert str(folder) not in str(raised.value)
            assert len(name) == 300 or isinstance(raised.value, SourceGone)

    run(each, data=folder)


def test_a_link_to_itself(folder: Path) -> None:
    with pytest.raises(SourceError):
        run(lambda files: files.size(DataFile("loop")), data=folder)


def test_a_folder_that_may_not_be_entered(closed: Path) -> None:
    with pytest.raises(SourceDenied, match="owner and mode"):
        run(lambda files: files.size(DataFile("a.jpg")), data=closed)


def test_a_machine_without_the_folder_leaves_it_to_others() -> None:
    with pytest.raises(SourceDenied, match="--local-images"):
        run(lambda files: files.image(DataFile("a.jpg"), 10))
