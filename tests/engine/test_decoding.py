"""Real decoders in real processes, and what ends them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from PIL import Image

from p2pcap.engine import decoder, group
from p2pcap.engine.decoding import Decoders
from p2pcap.errors import EngineDied, ImageError
from tests.vectors import pixels

SOON = 30.0
"""Seconds after which something that has to happen is held to have failed."""

PHOTO = pixels.encoded(pixels.photograph(), "JPEG")
CRASH = b"this makes the codec crash"

FAULTY_CODEC = f"""
import sys
if "p2pcap.engine.decoder" in sys.orig_argv:
    import ctypes
    from p2pcap.engine import images
    decode = images.decode
    images.decode = lambda file, edge: ctypes.string_at(0) if {CRASH!r} in file else decode(file, edge)
"""

ENGINE = """
import sys, time
from p2pcap.engine.decoding import Decoders
decoders = Decoders(2)
[future.result() for future in [decoders.submit(open(sys.argv[1], "rb").read(), 32) for _ in range(20)]]
print(*decoders.pids(), flush=True)
time.sleep(600)
"""


def slow() -> bytes:
    """A progressive JPEG of 16 megapixels whose last scan comes 40,000 times: minutes of work in 600 kB."""
    file = pixels.encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    scan = file[file.rindex(b"\xff\xda") : -2]
    return file[:-2] + scan * 40_000 + file[-2:]


@pytest.fixture
def one() -> Iterator[Decoders]:
    with closing(Decoders(1)) as decoders:
        yield decoders


@pytest.fixture
def faulty_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that really crash of an image: Python runs a file of that name whenever it starts."""
    (tmp_path / "sitecustomize.py").write_text(FAULTY_CODEC)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def gone(processes: list[psutil.Process]) -> bool:
    return psutil.wait_procs(processes, SOON)[1] == []


def fault(decoders: Decoders, file: bytes, edge: int = 64) -> ImageError:
    with pytest.raises(ImageError) as raised:
        decoders.submit(file, edge).result()
    return raised.value


def test_the_pixels_are_the_same_in_a_decoder(one: Decoders) -> None:
    vectors = json.loads(pixels.FILE.read_text())
    for name, wanted in vectors["files"].items():
        file = (pixels.FOLDER / name).read_bytes()
        got = [pixels.digest(one.submit(file, edge).result()) for edge in vectors["edges"]]
        assert got == wanted, name


def test_a_faulty_image_costs_no_decoder(one: Decoders) -> None:
    one.submit(PHOTO, 64).result()
    before = one.pids()
    assert fault(one, b"<html>").code == "not-image"
    assert fault(one, PHOTO[:2000]).code == "truncated"
    assert fault(one, b"").code == "empty"
    assert one.pids() == before


def test_many_are_decoded_side_by_side() -> None:
    with closing(Decoders(3)) as decoders:
        assert {future.result().size for future in [decoders.submit(PHOTO, 40) for _ in range(60)]} == {(40, 30)}
        assert len(decoders.pids()) == 3


def test_there_is_one_for_each_core_that_may_be_used() -> None:
    with closing(Decoders()) as decoders:
        assert decoders.count == min(32, len(os.sched_getaffinity(0)))


def test_one_that_is_killed_between_two_images_costs_none(one: Decoders) -> None:
    one.submit(PHOTO, 64).result()
    (first,) = one.pids()
    os.kill(first, signal.SIGKILL)
    assert one.submit(PHOTO, 64).result().size == (64, 48)
    assert one.pids() != [first]


@pytest.mark.usefixtures("faulty_codec")
def test_an_image_that_crashes_two_is_named_and_the_others_go_on(one: Decoders) -> None:
    futures = [one.submit(file, 64) for file in (PHOTO, PHOTO + CRASH, PHOTO)]
    with pytest.raises(ImageError) as raised:
        futures[1].result()
    assert raised.value.code == "decoder-died"
    assert "SIGSEGV" in raised.value.reason
    assert futures[0].result().tobytes() == futures[2].result().tobytes()
    assert len(one.pids()) == 1


def test_an_image_of_endless_work_is_too_slow() -> None:
    with closing(Decoders(1, cpu_seconds=1)) as decoders:
        assert fault(decoders, slow()).code == "too-slow"
        assert decoders.submit(PHOTO, 64).result().size == (64, 48)


def test_a_decoder_that_hangs_is_replaced() -> None:
    with closing(Decoders(1, seconds=2.0)) as decoders:
        decoders.submit(PHOTO, 64).result()
        (first,) = decoders.pids()
        os.kill(first, signal.SIGSTOP)
        assert fault(decoders, PHOTO).code == "too-slow"
        assert not psutil.pid_exists(first)
        assert decoders.submit(PHOTO, 64).result().size == (64, 48)


def test_an_image_that_needs_too_much_memory_is_too_large(one: Decoders) -> None:
    line = pixels.png(120_000_000, 1, 8, 0, bytes(120_000_001))  # scaling it to 512 takes a table of 6 GB
    one.submit(PHOTO, 64).result()
    before = one.pids()
    assert fault(one, line, 512).code == "too-large"
    assert one.pids() == before


def test_a_decoder_is_confined(one: Decoders) -> None:
    one.submit(PHOTO, 64).result()
    process = psutil.Process(one.pids()[0])
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.memory_info().vms < process.rlimit(psutil.RLIMIT_AS)[0] < process.memory_info().vms + 4 * 1024**3
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"


def test_codecs_do_not_write_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    file = bytearray((pixels.FOLDER / "lzw.tif").read_bytes())
    file[8:200] = bytes(192)
    with closing(Decoders(1)) as decoders:
        decoders.submit(bytes(file), 64).exception()
    assert capfd.readouterr().err == ""


def test_close_leaves_nothing_even_if_they_hang() -> None:
    decoders = Decoders(2)
    [future.result() for future in [decoders.submit(PHOTO, 64) for _ in range(20)]]
    processes = [psutil.Process(pid) for pid in decoders.pids()]
    for process in processes:
        process.suspend()
    waiting = [decoders.submit(PHOTO, 64) for _ in range(10)]
    assert wait(waiting, 1).done == set()
    decoders.close()
    assert gone(processes)
    for future in waiting:
        with pytest.raises((EngineDied, CancelledError)):
            future.result(SOON)
    assert decoders.pids() == []


@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_is_left_when_their_engine_is_killed(tmp_path: Path, stopped: bool) -> None:
    group.adopt_orphans()
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, tmp_path / "photo.jpg"], stdout=subprocess.PIPE, text=True)
    with engine:
        assert engine.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in engine.stdout.readline().split()]
        assert len(processes) == 2
        for process in processes if stopped else []:
            process.suspend()  # one that cannot see that the socket is closed
        engine.kill()
    assert gone(processes)


def test_a_decoder_that_cannot_be_started_is_the_machines_fault(
    one: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(EngineDied, match="cannot be started"):
        one.submit(PHOTO, 64).result()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineDied, match="does not start"):
        one.submit(PHOTO, 64).result()
    assert one.pids() == []
    capfd.readouterr()


@pytest.mark.parametrize(
    "answer",
    [
        decoder.ANSWER.pack(decoder.PICTURE, 2**31, 2**31),
        decoder.ANSWER.pack(decoder.FAULT, 2**31, 3),
        decoder.ANSWER.pack(7, 1, 1),
    ],
    ids=["size", "text", "kind"],
)
def test_nothing_is_believed_that_no_decoder_says(
    answer: bytes, one: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = tmp_path / "liar"
    start = "import socket, sys; s = socket.socket(fileno=int(sys.argv[-1]))"
    program = f"{start}; s.sendall(b'1' + {answer!r}); s.recv(1)\nwhile s.recv(65536): pass"
    liar.write_text(f"#!{sys.executable}\n{program}\n")
    liar.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(liar))
    assert fault(one, PHOTO).code == "decoder-died"


def test_a_decoder_ends_with_its_socket() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "p2pcap.engine.decoder", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    with ours:
        assert ours.recv(1) == decoder.READY
    assert process.wait(SOON) == 0


def test_what_is_larger_than_a_socket_holds_arrives_whole_and_what_breaks_off_does_not() -> None:
    head, body = b"head", os.urandom(3 * decoder.BUFFER)
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as thread, theirs, ours:
        ours.settimeout(SOON)  # as the engine's end has one: a call then takes what there is room for, and no more
        come = thread.submit(decoder.receive, theirs, len(head) + len(body))
        decoder.send(ours, head, body)
        assert come.result(SOON) == head + body
        ours.sendall(body[:5])
        ours.close()
        assert decoder.receive(theirs, 6) == b""
