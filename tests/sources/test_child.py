"""The processes that read strangers' files: bounded, gone in the end, kept for the next file where that is safe."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from p2pcap.sources.child import ChildFailed, ChildSlow, Limits, open_child
from p2pcap.sources.spare import KEPT_SECONDS, Lent, lent_child

LIMITS = Limits(512 * 2**20)
MODULE = "tests.sources.child_echo"


async def ask(lent: Lent, question: bytes) -> bytes:
    await lent.child.send(question)
    return await lent.child.receive(2**20)


def children() -> list[psutil.Process]:
    living = [process for process in psutil.Process().children() if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in living if MODULE in process.cmdline()]


def test_frames_go_both_ways_and_the_process_ends_with_the_block() -> None:
    async def talk() -> None:
        async with open_child(MODULE, LIMITS, 30) as child:
            for frame in (b"", b"x", os.urandom(2**21)):
                await child.send(frame)
                assert await child.receive(2**22) == frame
            assert len(children()) == 1

    trio.run(talk)
    assert not children()


def test_a_frame_that_is_too_long_is_not_received() -> None:
    async def talk() -> None:
        async with open_child(MODULE, LIMITS, 30) as child:
            await child.send(bytes(1_001))
            with pytest.raises(ChildFailed, match="1001 bytes"):
                await child.receive(1_000)

    trio.run(talk)


def test_the_process_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    async def talk() -> bytes:
        async with open_child(MODULE, LIMITS, 30, {"SAID": "yes"}) as child:
            await child.send(b"environment")
            return await child.receive(2**20)

    seen = trio.run(talk)
    assert b"SAID" in seen
    assert b"HF_TOKEN" not in seen


@pytest.mark.parametrize("end", [b"crash", b"memory", b"exit", b"file"])
def test_a_process_that_ends_is_an_error_here(end: bytes) -> None:
    async def talk() -> None:
        async with open_child(MODULE, LIMITS, 30) as child:
            await child.send(end)
            with pytest.raises(ChildFailed, match="ended"):
                await child.receive(100)

    trio.run(talk)


def test_a_process_that_hangs_is_given_up() -> None:
    async def talk() -> None:
        async with open_child(MODULE, LIMITS, 0.1) as child:
            with pytest.raises(ChildSlow):
                await child.receive(100)

    trio.run(talk)
    assert not children()


def test_the_process_ends_when_the_node_is_killed(tmp_path: Path) -> None:
    program = f"""
import trio
from p2pcap.sources.child import Limits, open_child
async def main():
    async with open_child({MODULE!r}, Limits(2**29), 30) as child:
        await child.send(b"hello")
        await child.receive(100)
        await child.send(b"sleep")
        print(child._process.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert node.stdout
    with node.stdout:
        child = psutil.Process(int(node.stdout.readline()))
        node.send_signal(signal.SIGKILL)
        node.wait()
    _, alive = psutil.wait_procs([child], timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


# --- spare ones


def test_an_idle_process_serves_the_next_caller() -> None:
    async def talk() -> set[bytes]:
        pids = set()
        for _ in range(3):
            async with lent_child(MODULE, LIMITS, 30) as lent:
                pids.add(await ask(lent, b"pid"))
                lent.idle = True
        return pids

    assert len(trio.run(talk)) == 1
    assert not children(), "it ends with the run"


def test_a_process_that_has_more_to_say_does_not() -> None:
    async def talk() -> set[bytes]:
        pids = set()
        for _ in range(2):
            async with lent_child(MODULE, LIMITS, 30) as lent:
                pids.add(await ask(lent, b"pid"))
            assert not children()
        return pids

    assert len(trio.run(talk)) == 2


def test_two_callers_at_once_have_two_processes() -> None:
    async def talk() -> None:
        async with lent_child(MODULE, LIMITS, 30) as first, lent_child(MODULE, LIMITS, 30) as second:
            assert await ask(first, b"pid") != await ask(second, b"pid")
            first.idle = second.idle = True
        assert len(children()) == 1

    trio.run(talk)
    assert not children()


def test_a_spare_that_died_is_not_lent() -> None:
    async def talk() -> None:
        async with lent_child(MODULE, LIMITS, 30) as lent:
            await ask(lent, b"pid")
            lent.idle = True
        [process] = children()
        process.kill()
        process.wait()
        async with lent_child(MODULE, LIMITS, 30) as lent:
            assert await ask(lent, b"pid") != str(process.pid).encode()

    trio.run(talk)


def test_a_spare_ends_after_a_while() -> None:
    async def talk() -> None:
        async with lent_child(MODULE, LIMITS, 30) as lent:
            await ask(lent, b"pid")
            lent.idle = True
        [process] = children()
        clock.jump(KEPT_SECONDS + 1)
        with trio.fail_after(60):
            while process.is_running():
                await trio.lowlevel.checkpoint()

    clock = trio.testing.MockClock(rate=1.0)
    trio.run(talk, clock=clock)
