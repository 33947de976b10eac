"""Tars where they really are: on disk, behind a fake Hub, on the web; and `p2pcap index` for each of them."""

import functools
import gzip
import http.server
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from p2pcap.cli.index import index
from p2pcap.errors import ConfigError, ImageError
from p2pcap.project.items import ItemList, TarRange
from p2pcap.project.records import FetchRules
from p2pcap.sources import tar
from p2pcap.sources.files import Files
from p2pcap.sources.locations import DataFile, HubFile, Location, WebFile
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.reading import read_images
from p2pcap.sources.spec import Images
from p2pcap.sources.tar_index import encode_index, parse_index, seek_index
from tests.sources.fake_hub import FakeHub
from tests.sources.tars import image, pack

COUNT = 30


def samples(shard: str, count: int = COUNT) -> list[tuple[str, bytes]]:
    found = []
    for number in range(count):
        found.append((f"{shard}/{number:04}.jpg", image(f"{shard}/{number}", 20_000)))
        found.append((f"{shard}/{number:04}.json", json.dumps({"caption": f"{shard} {number}"}).encode()))
    return found


def contents(shard: str, count: int = COUNT) -> dict[str, bytes]:
    return {name.removesuffix(".jpg"): data for name, data in samples(shard, count) if name.endswith(".jpg")}


def index_of(path: Path) -> bytes:
    with path.open("rb") as file:
        size = path.stat().st_size
        return encode_index(path.name, size, seek_index(file, size, lambda done: None).members)


def with_files(data: Path | None, work: Callable[[Files], Awaitable[None]], *hosts: str) -> None:
    async def run() -> None:
        async with open_files(data, Access(FetchRules(hosts=hosts))) as files:
            await work(files)

    trio.run(run)


async def lists_of(files: Files, location: Location, size: int = 64, **images: object) -> list[ItemList]:
    found = Images(source="here", **images)  # type: ignore[arg-type]
    return [one async for one in tar.plan(files, location, found, size)]


async def images_of(files: Files, found: ItemList, scratch: Path, places: list[int] | None = None) -> dict[str, bytes]:
    """The images by key; one that cannot be had is its error's code."""
    got: dict[str, bytes] = {}

    async def put(place: int, data: bytes | ImageError) -> None:
        got[found.items[place].key] = data if isinstance(data, bytes) else data.code.encode()

    wanted = list(range(len(found.items))) if places is None else places
    await read_images(files, found, wanted, FetchRules(), scratch, put)
    return got


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A data set of three shards: one with its index, one without, one empty."""
    for shard, count in (("a", COUNT), ("b", 7), ("c", 0)):
        pack(tmp_path / "repo" / f"{shard}.tar", samples(shard, count), "pax")
    (tmp_path / "repo" / "a.json").write_bytes(index_of(tmp_path / "repo" / "a.tar"))
    files = {f"data/{path.name}": path.read_bytes() for path in (tmp_path / "repo").iterdir()}
    with FakeHub({"owner/name": files}) as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        yield hub


def ranges(hub: FakeHub) -> list[str]:
    """The ranges that were answered with bytes."""
    return [one.range for one in hub.requests if one.status == 206]


def test_a_chunk_of_the_hub_is_one_request_for_its_range(hub: FakeHub, tmp_path: Path) -> None:
    async def work(files: Files) -> None:
        location = HubFile("datasets", "owner/name", hub.revision("owner/name"), "data/a.tar")
        lists = await lists_of(files, location, 10)
        assert hub.bytes_of("data/a.tar") == 1 + 512  # the size, and a header to see whose index it is
        got: dict[str, bytes] = {}
        for found in lists:
            assert isinstance(found.tar, TarRange)
            moved, answers = hub.bytes_of("data/a.tar"), len(ranges(hub))
            got |= await images_of(files, found, tmp_path)
            assert hub.bytes_of("data/a.tar") - moved == found.tar.length
            assert ranges(hub)[answers:] == [f"bytes={found.tar.start}-{found.tar.start + found.tar.length - 1}"]
        assert got == contents("a")

    with_files(None, work)


def test_a_resume_on_the_hub_moves_what_is_missing(hub: FakeHub, tmp_path: Path) -> None:
    async def work(files: Files) -> None:
        location = HubFile("datasets", "owner/name", hub.revision("owner/name"), "data/a.tar")
        (found,) = await lists_of(files, location)
        before = hub.bytes_of("data/a.tar")
        got = await images_of(files, found, tmp_path, [10, 11])
        assert got == {key: data for key, data in contents("a").items() if key in ("a/0010", "a/0011")}
        moved = hub.bytes_of("data/a.tar") - before
        assert moved <= sum(map(len, got.values())) + 4_096

    with_files(None, work)


def test_shards_without_index_and_without_images(hub: FakeHub, tmp_path: Path) -> None:
    async def work(files: Files) -> None:
        revision = hub.revision("owner/name")
        (found,) = await lists_of(files, HubFile("datasets", "owner/name", revision, "data/b.tar"), fields=("caption",))
        assert [item.metadata["caption"] for item in found.items] == [f"b {number}" for number in range(7)]
        assert all(item.hash for item in found.items)
        assert await images_of(files, found, tmp_path) == contents("b", 7)
        assert await lists_of(files, HubFile("datasets", "owner/name", revision, "data/c.tar")) == []

    with_files(None, work)


def test_a_local_tar(tmp_path: Path) -> None:
    data, scratch = tmp_path / "data", tmp_path / "scratch"
    scratch.mkdir()
    pack(data / "deep" / "a.tar", samples("a"))

    async def work(files: Files) -> None:
        for _ in range(2):
            lists = await lists_of(files, DataFile("deep/a.tar"), 20)
            assert [len(found.items) for found in lists] == [20, 10]
            got: dict[str, bytes] = {}
            for found in lists:
                got |= await images_of(files, found, scratch)
            assert got == contents("a")
            (data / "deep" / "a.json").write_bytes(index_of(data / "deep" / "a.tar"))

    with_files(data, work)


class Ranged(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, with ranges of the form "bytes=first-last"."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start, end = 0, len(data) - 1
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last or end), end)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        self.wfile.write(data[start : end + 1])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server for the folder `web`; its host and port."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(Ranged, directory=str(tmp_path / "web"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_tar_on_the_web(web: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "web" / "a.tar", samples("a"))

    async def work(files: Files) -> None:
        for _ in range(2):
            (found,) = await lists_of(files, WebFile(f"http://{web}/a.tar"))
            assert await images_of(files, found, tmp_path) == contents("a")
            path.with_suffix(".json").write_bytes(index_of(path))
        pack(path, samples("a", 5))
        assert set((await images_of(files, found, tmp_path)).values()) == {b"gone"}

    with_files(None, work, web)


# --- p2pcap index


def run(*arguments: str | Path) -> None:
    index.main([str(one) for one in arguments], standalone_mode=False)


def test_local_tars_get_their_indexes_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tars = [pack(tmp_path / f"{name}.tar", samples(name, count)) for name, count in (("a", 3), ("b", 0))]
    run(*tars)
    said = capsys.readouterr().err
    assert "a.json: 6 files, 3 of them images" in said
    assert "b.json: 0 files" in said
    for path in tars:
        assert path.with_suffix(".json").read_bytes() == index_of(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.tar", "b.json", "b.tar"]


def test_an_index_that_is_there_stays_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pack(tmp_path / "a.tar", samples("a", 3))
    path.with_suffix(".json").write_text("mine")
    run(path)
    assert path.with_suffix(".json").read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    run("--force", path)
    assert path.with_suffix(".json").read_bytes() == index_of(path)


def test_hashes_and_another_folder(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", samples("a", 3))
    run("--hashes", "--output", tmp_path / "new" / "folder", path)
    members = parse_index((tmp_path / "new" / "folder" / "a.json").read_bytes(), path.stat().st_size)
    assert members is not None
    assert len({member.hash for member in members} - {b""}) == 6
    assert not path.with_suffix(".json").exists()


def test_what_is_faulty_is_told_and_keeps_nothing_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = pack(tmp_path / "good.tar", samples("a", 3))
    cut = pack(tmp_path / "cut.tar", samples("a", 3))
    cut.write_bytes(cut.read_bytes()[:30_000])
    packed = tmp_path / "packed.tar"
    packed.write_bytes(gzip.compress(good.read_bytes()))
    with pytest.raises(ConfigError) as failed:
        run(cut, packed, tmp_path / "missing.tar", good)
    lines = str(failed.value).split("\n")
    assert "cut.tar has" in lines[0]
    assert "2 files before" in lines[0]
    assert "Unpack it" in lines[1]
    assert "No such file" in lines[2]
    assert json.loads((tmp_path / "cut.json").read_bytes())["files"].keys() == {"a/0000.jpg", "a/0000.json"}
    assert (tmp_path / "good.json").exists()
    assert not (tmp_path / "packed.json").exists()


def test_what_volunteers_would_fetch_in_vain_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = [("1.jpg", bytes(1_000)), ("1.npy", bytes(9_000)), ("2.jpg", bytes(1_000))]
    run(pack(tmp_path / "a.tar", members))
    assert "% are other files" in capsys.readouterr().err
    run(pack(tmp_path / "b.tar", samples("b", 3)))
    assert "other files" not in capsys.readouterr().err


def test_a_full_or_forbidden_place(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", samples("a", 3))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        run("--output", tmp_path / "file" / "below", path)


def test_tars_of_the_hub_and_the_web(hub: FakeHub, web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--output", tmp_path / "out", "hf://datasets/owner/name/data/*.tar")
    repo = tmp_path / "repo"
    for name in "abc":
        size = (repo / f"{name}.tar").stat().st_size
        members = parse_index((tmp_path / "out" / "data" / f"{name}.json").read_bytes(), size)
        expected = parse_index(index_of(repo / f"{name}.tar"), size)
        assert [(m.name, m.offset, m.length) for m in members or ()] == [
            (m.name, m.offset, m.length) for m in expected or ()
        ]
        assert all(member.hash for member in members or ())
        assert size <= hub.bytes_of(f"data/{name}.tar") <= size + 1
    pack(tmp_path / "web" / "x y.tar", samples("a", 3))
    monkeypatch.chdir(tmp_path)
    run(f"http://{web}/x%20y.tar")
    assert (tmp_path / "x y.json").exists()


def test_a_tar_that_cannot_be_reached_or_written_keeps_none_waiting(web: str, tmp_path: Path) -> None:
    (tmp_path / "web" / "0.tar").mkdir()
    pack(tmp_path / "web" / "1.tar", samples("a", 3))
    cut, good = (pack(tmp_path / f"{name}.tar", samples(name, 3)) for name in ("cut", "good"))
    cut.write_bytes(cut.read_bytes()[:30_000])
    (tmp_path / "closed.json").mkdir()
    closed = pack(tmp_path / "closed.tar", samples("c", 3))
    output = tmp_path / "out"
    with pytest.raises(ConfigError) as failed:
        run("--output", output, cut, f"http://{web}/missing.tar", f"http://{web}/{{0..1}}.tar", good)
    faults = str(failed.value).split("\n")
    assert [fault.split(" ")[0] for fault in faults] == [
        str(cut),
        f"http://{web}/missing.tar:",
        f"http://{web}/0.tar:",
    ]
    assert sorted(path.name for path in output.iterdir()) == ["1.json", "cut.json", "good.json"]
    with pytest.raises(ConfigError, match="cannot be written"):
        run("--force", closed, good)
    assert good.with_suffix(".json").exists()
