"""Sync without a network: peers in memory, time that jumps."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from p2pcap.codec import decode, encode
from p2pcap.errors import RequestFailed
from p2pcap.ledger.negentropy import Reconciliation
from p2pcap.swarm import messages
from p2pcap.swarm.peers import BAN_AT, BROKE_OFF, INVALID_MESSAGE
from p2pcap.swarm.sync import IDLE_SECONDS, PASS_OVER, SESSION_SECONDS, SESSIONS, Greetings, Sync, next_peer
from tests.swarm.test_sync import HOLDS_MUCH, listing, statements
from tests.swarm.twin import Twin, hash_of

T = TypeVar("T")
Answers = Callable[[str, Any], Awaitable[object]]


class Wire:
    """In the place of `Requests`: each peer is a function, and whatever is said is encoded and decoded."""

    def __init__(self, **peers: Answers) -> None:
        self._peers = peers
        self.asked: Counter[tuple[str, str]] = Counter()

    async def ask(self, peer: str, name: str, request: Any, kind: type[T], limit: int) -> T:
        self.asked[peer, name] += 1
        said = decode(encode(request), type(request), 2**20)
        return decode(encode(await self._peers[peer](name, said)), kind, limit)


def answering(twin: Twin, sync: Callable[[], Sync]) -> Answers:
    """An honest peer."""

    async def answer(name: str, request: Any) -> object:
        match name:
            case "reconcile":
                return messages.Reconciled(twin.reconcile(request.frame))
            case "statements":
                return messages.Statements(await twin.statements(request.ids))
            case "push":
                await sync().take_in("asking", request.envelopes)
                return messages.Pushed()
        raise AssertionError(name)

    return answer


def sync_of(twin: Twin, wire: Wire) -> tuple[Sync, list[tuple[str, float]]]:
    blamed: list[tuple[str, float]] = []
    return Sync(twin, wire, twin.status, lambda peer, penalty: blamed.append((peer, penalty))), blamed


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_two_nodes_in_memory_end_up_equal() -> None:
    async def main() -> None:
        here, there = Twin(), Twin()
        here.hold(*statements(700), *statements(100, b"here"))
        there.hold(*statements(700), *statements(2_000, b"there"))
        answerer, _ = sync_of(there, Wire())
        wire = Wire(there=answering(there, lambda: answerer))
        sync, blamed = sync_of(here, wire)
        await sync.reconcile("there", there.status())
        assert here.held == there.held
        assert (len(here.received), len(there.received), blamed) == (2_000, 100, [])
        before = wire.asked.total()
        await sync.reconcile("there", there.status())
        assert wire.asked.total() == before, "equal digests: nothing is asked"

    run(main)


EVERYTHING = Twin()
EVERYTHING.hold(*statements(40))


async def slow(name: str, request: Any) -> object:
    """Answers just in time, and never with anything useful."""
    await trio.sleep(29)
    return messages.Reconciled(Reconciliation(EVERYTHING._index(), messages.RECONCILE_FRAME).first())


async def lacking(name: str, request: Any) -> object:
    """Lacks everything, and takes it page by page, each just in time."""
    await trio.sleep(29)
    return messages.Pushed() if name == "push" else messages.Reconciled(b"\x61\x00\x00\x02\x00")


def test_peers_that_are_slow_on_purpose_hold_no_place_for_ever() -> None:
    async def main() -> None:
        here, there = Twin(), Twin()
        here.hold(*statements(40, b"here"))
        there.hold(*statements(40, b"here"), b"new")
        names = [f"slow{number}" for number in range(SESSIONS)]
        answerer, _ = sync_of(there, Wire())
        sync, blamed = sync_of(here, Wire(there=answering(there, lambda: answerer), **dict.fromkeys(names, slow)))
        began = trio.current_time()

        async def fruitless(name: str) -> None:
            with pytest.raises(RequestFailed, match="nothing came of it"):
                await sync.reconcile(name, HOLDS_MUCH)

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(fruitless, name)
            await trio.sleep(1)
            await sync.reconcile("there", there.status())
            assert trio.current_time() - began == IDLE_SECONDS
            assert b"new" in here.held.values()
        assert sorted(blamed) == [(name, BROKE_OFF) for name in names]
        asked = sync._requests.asked.copy()  # type: ignore[attr-defined]
        await sync.reconcile(names[0], HOLDS_MUCH)
        assert sync._requests.asked == asked, "none is begun with it again for a while"  # type: ignore[attr-defined]
        await trio.sleep(PASS_OVER)
        await fruitless(names[0])

    run(main)


def test_a_round_that_would_take_too_long_is_cut_off() -> None:
    """A peer that lacks everything takes pages of statements one by one, each just in time."""

    async def main() -> None:
        here, wire = Twin(), Wire(lacking=lacking)
        here.hold(*statements(16_000))
        sync, blamed = sync_of(here, wire)
        began = trio.current_time()
        await sync.reconcile("lacking", HOLDS_MUCH)
        assert trio.current_time() - began == SESSION_SECONDS
        assert wire.asked["lacking", "push"] > 1
        assert not blamed, "it took something, if slowly"

    run(main)


def test_a_place_is_not_waited_for_without_end() -> None:
    async def main() -> None:
        here = Twin()
        here.hold(*statements(40, b"here"))
        here.hold(*statements(16_000))
        names = [f"slow{number}" for number in range(2 * SESSIONS)]
        wire = Wire(**dict.fromkeys([*names, "late"], lacking))
        sync, _ = sync_of(here, wire)

        async def occupy(name: str) -> None:
            await sync.reconcile(name, HOLDS_MUCH)

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(occupy, name)
                await trio.sleep(1)
            began = trio.current_time()
            await sync.reconcile("late", HOLDS_MUCH)
            assert trio.current_time() - began == SESSION_SECONDS
            assert wire.asked["late", "reconcile"] == 0
        assert not sync._busy

    run(main)


def test_what_is_got_in_bulk_takes_no_place_and_no_time_of_the_conversation() -> None:
    class Bulk(Twin):
        async def reconciliation(self, peer: str) -> Reconciliation | None:
            if peer.startswith("bulk"):
                await trio.sleep(10 * SESSION_SECONDS)
            return await super().reconciliation(peer)

    async def brief(name: str, request: Any) -> object:
        return messages.Reconciled(b"\x61")

    async def main() -> None:
        names = [f"bulk{number}" for number in range(SESSIONS)]
        wire = Wire(**dict.fromkeys([*names, "other"], brief))
        sync, blamed = sync_of(Bulk(), wire)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in names * 2:
                nursery.start_soon(sync.reconcile, name, HOLDS_MUCH)
            await trio.sleep(1)
            await sync.reconcile("other", HOLDS_MUCH)
            assert trio.current_time() - began == 1
        assert wire.asked == {(name, "reconcile"): 1 for name in [*names, "other"]}
        assert not blamed

    run(main)


def test_no_two_greetings_with_a_peer_are_under_way() -> None:
    greeted: list[tuple[float, str, bool]] = []

    async def greet(peer: str, begin: bool) -> None:
        greeted.append((trio.current_time(), peer, begin))
        await trio.sleep(10)
        if peer == "bad":
            raise RequestFailed("It is.")

    async def main() -> None:
        greetings, began = Greetings(greet), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(greetings.run, "one", False)
            await trio.sleep(1)
            for begin in (False, True, False):
                nursery.start_soon(greetings.run, "one", begin)
            nursery.start_soon(greetings.run, "other")
            await trio.testing.wait_all_tasks_blocked()
            assert ("one" in greetings, "nobody" in greetings) == (True, False)
        assert [(time - began, *rest) for time, *rest in greeted] == [
            (0, "one", False),
            (1, "other", True),
            (10, "one", True),
        ]
        with pytest.raises(RequestFailed):
            await greetings.run("bad")
        assert not any(peer in greetings for peer in ("one", "other", "bad"))

    run(main)


def test_only_so_many_conversations_are_in_work_and_one_with_a_peer() -> None:
    at_once = most = 0

    async def count(name: str, request: Any) -> object:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(1)
        at_once -= 1
        return messages.Reconciled(b"\x61")

    async def main() -> None:
        wire = Wire(**{f"peer{number}": count for number in range(5)})
        sync, _ = sync_of(Twin(), wire)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(sync.reconcile, f"peer{number}", HOLDS_MUCH)
                nursery.start_soon(sync.reconcile, f"peer{number}", HOLDS_MUCH)
        assert most == SESSIONS
        assert wire.asked == {(f"peer{number}", "reconcile"): 1 for number in range(5)}

    run(main)


class Slow(Twin):
    """Takes a second to store what it gets, and knows how many pages it was handed at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: Counter[str] = Counter()
        self.most = 0

    async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
        self.pages[sender] += 1
        self.most = max(self.most, self.pages[sender])
        await trio.sleep(1)
        self.pages[sender] -= 1
        return await super().receive(envelopes, sender)


def test_the_node_gets_one_page_at_a_time_for_each_peer() -> None:
    async def main() -> None:
        slow, began = Slow(), trio.current_time()
        sync, _ = sync_of(slow, Wire())
        async with trio.open_nursery() as nursery:
            for number in range(4):
                for peer in ("one", "other"):
                    nursery.start_soon(sync.take_in, peer, [f"{peer} {number}".encode()])
        assert (len(slow.received), slow.most) == (8, 1)
        assert trio.current_time() - began == 4, "peers do not wait for each other"
        assert not sync._receiving

    run(main)


@pytest.mark.parametrize(("invalid", "penalty"), [(1, INVALID_MESSAGE), (4, 4 * INVALID_MESSAGE), (200, BAN_AT)])
def test_each_invalid_statement_costs_its_sender_up_to_a_ban(invalid: int, penalty: float) -> None:
    async def main() -> None:
        twin = Twin()
        twin.invalid = set(statements(invalid))
        sync, blamed = sync_of(twin, Wire())
        assert await sync.take_in("liar", [*statements(invalid), b"a truth"]) == invalid
        assert blamed == [("liar", penalty)]
        assert list(twin.held) == [hash_of(b"a truth")]

    run(main)


def test_a_node_that_is_not_ready_begins_nothing() -> None:
    class Unready(Twin):
        async def reconciliation(self, peer: str) -> Reconciliation | None:
            return None

    async def main() -> None:
        wire = Wire()
        sync, _ = sync_of(Unready(), wire)
        await sync.reconcile("peer", HOLDS_MUCH)
        assert not wire.asked

    run(main)


def test_a_failed_conversation_leaves_nothing_behind() -> None:
    async def vague(name: str, request: Any) -> object:
        return listing(b"a") if name == "reconcile" else messages.Statements([])

    async def main() -> None:
        sync, blamed = sync_of(Twin(), Wire(vague=vague))
        for _ in range(SESSIONS + 1):
            with pytest.raises(RequestFailed, match="does not hold"):
                await sync.reconcile("vague", HOLDS_MUCH)
        assert len(blamed) == SESSIONS + 1

    run(main)


def test_everybody_is_asked_in_turn_and_those_we_chose_every_other_time() -> None:
    ours, theirs = ["o1", "o2", "o3"], [f"t{number}" for number in range(20)]
    for seed in range(20):
        asked_at: dict[str, float] = {}
        order: list[str] = []
        for now in range(40):
            peer = next_peer([*ours, *theirs], asked_at, ours, random.Random(seed + now))
            assert peer is not None
            asked_at[peer] = float(now)
            order.append(peer)
        assert all(peer in ours for peer in order[::2])
        assert {*order[:6]} >= {*ours}, "k of ours within 2k rounds"
        assert {*order} == {*ours, *theirs}, "n in all within 2n rounds"


def test_with_one_kind_of_peers_only_all_are_asked_within_as_many_rounds() -> None:
    peers = [f"p{number}" for number in range(10)]
    for outbound in ([], peers):
        asked_at: dict[str, float] = {}
        for now in range(10):
            peer = next_peer(peers, asked_at, outbound, random.Random(now))
            assert peer is not None
            asked_at[peer] = float(now)
        assert asked_at.keys() == {*peers}
    assert next_peer([], {"gone": 1.0}, [], random.Random(0)) is None
