"""One process of an engine: real ones, that end before they have loaded anything."""

from collections.abc import Iterator
from itertools import chain, count, repeat
from pathlib import Path

import pytest
import trio

from p2pcap.engine import frames, life
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.life import End, Kills, Life
from tests.engine.hosted import MODEL, TASK

START = frames.Start(str(MODEL), TASK, EngineSettings(endpoints=("http://127.0.0.1:9/v1",)))


def test_only_a_kill_just_before_the_end_counts() -> None:
    kills = Kills(5)
    assert not kills.lately(5)
    assert kills.lately(6)
    kills.look(6)
    assert kills.lately(6), "it may have been a moment ago"
    kills.look(6)
    assert not kills.lately(6)
    assert kills.lately(7)


def end_after(kills: Iterator[int], looks: int, log: Path) -> End:
    """How a process ends that is killed after so many counts of the kernel's kills."""

    async def main() -> End:
        looked, reached = count(1), trio.Event()

        def counted() -> int:
            if next(looked) >= looks:
                reached.set()
            return next(kills)

        one = Life(START, log, lambda message: None, counted)
        with trio.fail_after(60):
            async with one.alive():
                await reached.wait()
                one.kill("The engine's process hung.")
                await one.link.closed.wait()
        return one.end()

    return trio.run(main)


def test_a_kill_of_long_ago_is_not_what_the_process_dies_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "KILLED_WITHIN", 0.001)
    end = end_after(chain([5], repeat(6)), 4, tmp_path / "engine.log")
    assert (end.reason, end.short_of_memory) == ("The engine's process hung.", False)


def test_a_kill_in_the_last_moment_is(tmp_path: Path) -> None:
    end = end_after(chain([5], repeat(6)), 1, tmp_path / "engine.log")
    assert end.short_of_memory
