"""Groups of real processes, shaped like the engine's."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from p2pcap.engine import group

FAMILY = """
import multiprocessing, sys, time
from multiprocessing import shared_memory

def child(memory):
    multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,)).start()
    print("up", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=1000)
    print(memory.name, flush=True)
    multiprocessing.get_context("spawn").Process(target=child, args=(memory,)).start()
    time.sleep(600)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with a child, a grandchild, a resource tracker and a shared memory, in a session of its own."""
    group.adopt_orphans()
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    first = subprocess.Popen([sys.executable, script], start_new_session=True, stdout=subprocess.PIPE, text=True)
    with first:
        assert first.stdout is not None
        memory = first.stdout.readline().strip()
        assert first.stdout.readline() == "up\n"
        yield first, memory
        first.kill()


@pytest.mark.parametrize("first_dies_alone", [False, True])
def test_the_whole_group_goes_and_gives_its_shared_memory_back(
    family: tuple[subprocess.Popen[str], str], first_dies_alone: bool
) -> None:
    first, memory = family
    members = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    assert len(members) >= 4
    assert Path("/dev/shm", memory).exists()
    if first_dies_alone:
        first.kill()
    group.kill(first.pid)
    first.wait()
    group.collect(first.pid)
    assert [member for member in members if member.is_running()] == []
    assert not Path("/dev/shm", memory).exists()
