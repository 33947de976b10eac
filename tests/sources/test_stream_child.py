"""The process with the library `datasets` in it: how it ends, what it knows, and what it leaves behind."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import trio.testing

from p2pcap.errors import ImageError, SourceError, SourceUnavailable
from p2pcap.sources import streamed
from p2pcap.sources.child import open_child
from p2pcap.sources.stream_frames import Done, Open, Passed, Picture, Read, answers, encode
from tests.sources.stream_files import CELLS, IMAGES, MIB, NAMES, Reads, arrow, children, folder, numbered


@pytest.fixture
def reads(tmp_path: Path) -> Reads:
    return Reads(tmp_path)


@pytest.fixture
def large(reads: Reads) -> Reads:
    """Images of 1 MiB: no more than one is on the way while another is put."""
    arrow(reads.data / "a.arrow", [{"bytes": bytes([number]) * MIB, "path": None} for number in range(8)])
    return reads


def held_files(process: psutil.Process) -> list[str]:
    """Also those that were removed."""
    return [os.readlink(entry) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]


def the_child() -> psutil.Process:
    (child,) = children()
    return child


def test_what_a_killed_process_had_not_sent_may_be_had_later(large: Reads) -> None:
    came: list[int] = []

    async def put(place: int, image: bytes | ImageError) -> None:
        assert image == bytes([len(came)]) * MIB
        came.append(place)
        if len(came) == 2:
            the_child().kill()

    with pytest.raises(SourceUnavailable, match="ended"):
        large.run(large.rows("a.arrow"), numbered(*range(8)), put)
    assert came == [0, 10]


def test_a_process_that_hangs_is_given_up(large: Reads) -> None:
    clock = trio.testing.MockClock()
    came: list[int] = []

    async def put(place: int, image: bytes | ImageError) -> None:
        came.append(place)
        if len(came) == 2:
            the_child().send_signal(signal.SIGSTOP)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later)
            with pytest.raises(SourceUnavailable, match="too long"):
                await large.read(large.rows("a.arrow"), numbered(*range(8)), put)
            nursery.cancel_scope.cancel()

    async def later() -> None:
        while len(came) < 2:
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked(0.1)
        clock.jump(streamed.SECONDS)

    trio.run(main, clock=clock)
    assert came == [0, 10]
    assert children() == []


def test_cancelled_reading_leaves_neither_file_nor_process(large: Reads) -> None:
    async def put(place: int, image: bytes | ImageError) -> None:
        assert list(large.scratch.iterdir())
        scope.cancel()
        await trio.sleep_forever()

    async def main() -> None:
        with scope:
            await large.read(large.rows("a.arrow"), numbered(3, 5), put)

    scope = trio.CancelScope()
    trio.run(main)
    assert scope.cancelled_caught
    assert children() == []


def test_the_process_knows_no_secret(large: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[dict[str, str]] = []

    async def put(place: int, image: bytes | ImageError) -> None:
        seen.append(the_child().environ())

    large.run(large.rows("a.arrow"), numbered(0), put)
    assert "HF_TOKEN" not in seen[0]
    assert "hf_secret" not in seen[0].values()


def test_one_process_reads_one_file_after_the_other(reads: Reads) -> None:
    folder(reads.data / "a.zip")
    arrow(reads.data / "a.arrow", CELLS[2:])
    came: list[bytes | ImageError] = []
    seen: set[int] = set()

    async def put(place: int, image: bytes | ImageError) -> None:
        came.append(image)
        seen.add(the_child().pid)

    async def main() -> None:
        for name, builder in (("a.zip", "imagefolder"), ("a.arrow", "arrow"), ("a.zip", "imagefolder")):
            await reads.read(reads.rows(name, builder), numbered(1), put)
            assert not any(str(reads.scratch) in path for path in held_files(the_child()))

    trio.run(main)
    assert came[1] == IMAGES[NAMES[3]]
    assert came[0] == came[2] in IMAGES.values()
    assert len(seen) == 1
    assert children() == []


def test_examples_that_are_not_wanted_are_a_sign_of_life(large: Reads) -> None:
    async def main() -> list[Any]:
        path = str(large.data / "a.arrow")
        async with open_child("p2pcap.sources.stream_child", streamed.LIMITS, streamed.SECONDS) as child:
            await child.send(encode(Open(path, "arrow", 0.0)))
            await child.receive(MIB)
            await child.send(encode(Read("image", (3,))))
            said = [answers.decode(await child.receive(2 * MIB))]
            while said[-1] != Done():
                said.append(answers.decode(await child.receive(2 * MIB)))
            return said

    assert trio.run(main) == [Passed(0), Passed(1), Passed(2), Picture(3, b"\x03" * MIB), Done()]


def test_importing_the_module_imports_neither_library() -> None:
    code = "import sys, p2pcap.sources.streamed; print(sorted({'datasets', 'pyarrow', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The disk


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: the kernel refuses it as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_of_this_machine(large: Reads) -> None:
    with files_of_at_most(MIB), pytest.raises(SourceError, match="cannot be kept on disk") as raised:
        large.come(large.rows("a.arrow"), numbered(0))
    assert type(raised.value) is SourceError


def test_a_file_that_cannot_fit_is_not_begun(reads: Reads) -> None:
    with (reads.data / "a.arrow").open("wb") as file:
        os.truncate(file.fileno(), 2**43)
    with pytest.raises(SourceError, match="lacks room"):
        reads.come(reads.rows("a.arrow"), numbered(0))
    assert reads.files.moved == 0
