"""Sync without a network: peers in memory, time that jumps."""

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
from p2pcap.swarm.peers import BAN_AT, INVALID_MESSAGE
from p2pcap.swarm.sync import SESSION_SECONDS, SESSIONS, Sync
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


def test_a_peer_that_is_slow_on_purpose_holds_no_place_for_ever() -> None:
    async def slow(name: str, request: Any) -> object:
        await trio.sleep(29)
        return messages.Reconciled(Reconciliation(everything._index(), messages.RECONCILE_FRAME).first())

    everything = Twin()
    everything.hold(*statements(40))

    async def main() -> None:
        wire = Wire(slow=slow)
        here = Twin()
        here.hold(*statements(40, b"here"))
        sync, _ = sync_of(here, wire)
        began = trio.current_time()
        await sync.reconcile("slow", HOLDS_MUCH)
        assert trio.current_time() - began < SESSION_SECONDS + 29
        assert wire.asked["slow", "reconcile"] == SESSION_SECONDS // 29 + 1

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
