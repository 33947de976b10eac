"""A pause: what the user said is kept, ends by the clock on the wall, and goes before the node's manners."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pcap.errors import StoreError
from p2pcap.node import pausing
from p2pcap.node.hold import MANNERLY, Hold
from p2pcap.node.pausing import Pausing, Wish
from p2pcap.node.state import Facts, NodeState, state_of
from tests.twins import now

NIGHT = Hold("it is not between 23:00 and 07:00", None)


def clocked(test: Callable[[Path, MockClock], Awaitable[None]]) -> Callable[[Path], None]:
    """Run a test whose clock moves when it says so: a write to the disk takes no time that is counted."""

    def run(tmp_path: Path) -> None:
        clock = MockClock()
        trio.run(test, tmp_path, clock, clock=clock)

    return run


@clocked
async def test_a_pause_is_kept_and_ends_when_it_is_told_to(tmp_path: Path, clock: MockClock) -> None:
    here = Pausing(tmp_path / "pause", now)
    assert not here.hold
    assert await here.pause(None) is None
    assert here.hold == Pausing(tmp_path / "pause", now).hold == Hold("you paused it; p2pcap resume goes on", None, 0.0)
    await here.resume()
    assert not here.hold
    assert not Pausing(tmp_path / "pause", now).hold
    await here.resume()


@clocked
async def test_a_pause_with_a_length_ends_by_itself(tmp_path: Path, clock: MockClock) -> None:
    here = Pausing(tmp_path / "pause", now)
    until = await here.pause(7_200)
    assert until == now() + 7_200
    async with running(here):
        clock.jump(7_190)
        await wait_all_tasks_blocked()
        assert here.hold is not None
        assert here.hold.until == until
        clock.jump(20)
        while here.hold is not None:
            await here.changed.wait()


@clocked
async def test_it_ends_while_the_node_is_away_too(tmp_path: Path, clock: MockClock) -> None:
    await Pausing(tmp_path / "pause", now).pause(60)
    clock.jump(100)
    again = Pausing(tmp_path / "pause", now)
    async with running(again):
        while again.hold is not None:
            await again.changed.wait()
    assert not (tmp_path / "pause").exists()


def test_a_pause_that_is_said_while_another_one_ends_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is slow with the end, as far as it may be: until the next word is on it."""
    file, said, write = tmp_path / "pause", threading.Event(), pausing._write

    def slow(file: Path, wish: Wish | None) -> None:
        if wish is None:
            said.wait(0.2)
        write(file, wish)
        if wish is not None:
            said.set()

    async def main() -> None:
        here = Pausing(file, now)
        await here.pause(0.001)
        said.clear()
        monkeypatch.setattr(pausing, "_write", slow)
        async with running(here):
            await wait_all_tasks_blocked()
            await here.pause(None)
            await wait_all_tasks_blocked(0.01)
            assert here.hold is not None
            assert Pausing(file, now).hold == here.hold

    trio.run(main)


@clocked
async def test_a_clock_that_is_set_ends_a_pause(tmp_path: Path, clock: MockClock) -> None:
    ahead = 0.0
    here = Pausing(tmp_path / "pause", lambda: now() + ahead)
    await here.pause(86_400)
    async with running(here):
        ahead = 90_000
        clock.jump(60)
        while here.hold is not None:
            await here.changed.wait()


@clocked
async def test_the_users_word_goes_before_manners(tmp_path: Path, clock: MockClock) -> None:
    here = Pausing(tmp_path / "pause", now)
    here.behave(NIGHT)
    assert here.hold == NIGHT
    await here.finish()
    assert here.hold is not None
    assert here.hold.within > 1e9, "what is in hand is waited for"
    here.behave(None)
    assert here.hold.why.startswith("you had it finish"), "manners do not lift it"
    here.behave(NIGHT)
    await here.resume()
    assert here.hold == here.mannerly == NIGHT, "nor does the user lift them"
    seen = here.changed.count
    here.behave(NIGHT)
    assert here.changed.count == seen


@asynccontextmanager
async def running(pausing: Pausing) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pausing.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


def test_a_file_that_cannot_be_read_is_a_pause(tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"{")
    here = Pausing(tmp_path / "pause", now)
    assert here.hold is not None
    trio.run(here.resume)
    assert Pausing(tmp_path / "pause", now).hold is None


def test_what_cannot_be_kept_is_not_obeyed(tmp_path: Path) -> None:
    here = Pausing(tmp_path / "none" / "pause", now)
    with pytest.raises(StoreError, match="cannot be kept"):
        trio.run(here.pause, None)
    assert here.hold is None


STATES: list[tuple[dict[str, object], NodeState, str]] = [
    ({"ends": True, "hold": NIGHT}, "stopping", "leaves"),
    ({"has_project": False}, "starting", "looks for a peer"),
    ({"role": "observer", "finished": True}, "observing", "watches"),
    ({"role": "coordinator"}, "serving", "a coordinator"),
    ({"role": "seeder"}, "serving", "a seeder"),
    ({"hold": NIGHT, "in_hand": True}, "finishing", "not between"),
    ({"hold": NIGHT, "finished": True}, "paused", "not between"),
    ({"finished": True}, "finished", "every image"),
    ({"finished": True, "checking": True}, "working", "checks"),
    ({"admitted": False, "engine": "off"}, "idle", "not admitted"),
    ({"project_paused": True}, "idle", "the maintainer has paused"),
    ({"over": True}, "idle", "time is over"),
    ({"engine": "off"}, "idle", "no work"),
    ({"engine": "loading", "detail": "step 3"}, "starting", "the engine is loading: step 3"),
    ({"engine": "captioning", "in_hand": True}, "working", "captions"),
    ({"engine": "restarting", "in_hand": True}, "working", "the engine is restarting"),
    ({}, "idle", "others have claimed"),
]


@pytest.mark.parametrize(("facts", "state", "why"), STATES)
def test_a_node_says_what_it_does_and_why(facts: dict[str, object], state: NodeState, why: str) -> None:
    found, said = state_of(Facts(**{"role": "volunteer", **facts}))  # type: ignore[arg-type]
    assert found == state
    assert why in said


def test_manners_give_what_is_in_hand_half_a_minute() -> None:
    assert NIGHT.within == MANNERLY == 30.0
