"""What a node keeps and drops, and when it says so."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import trio

from p2pcap.envelope import seal
from p2pcap.identity import Identity
from p2pcap.ledger.rulings import Redact
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.keeping import DROP, REVIEW_EVERY, ROOMY, SETTLE, Keeping
from p2pcap.node.shares import DISK_BYTES, SEEN_FOR, StoreRole
from p2pcap.store.writes import DropBodies, Write
from tests.makers import ADA, BOB, COORDINATOR, NOW, ledger_of, make_project, make_result
from tests.twins import now, simulated

MADE = make_project((64,) * 40)
ALL = [(chunk, item) for chunk in range(40) for item in range(3)]
OTHERS = {Identity.from_seed(bytes([number]) * 32).peer_id: "full" for number in range(50, 62)}
LONG = SEEN_FOR + SETTLE + 3 * REVIEW_EVERY


class TwinStore:
    def __init__(self) -> None:
        self.gone: set[bytes] = set()
        self.sizes: list[int] = []

    async def dropped(self) -> set[bytes]:
        await trio.lowlevel.checkpoint()
        return set(self.gone)

    async def commit(self, *writes: Write) -> None:
        await trio.lowlevel.checkpoint()
        for write in writes:
            assert isinstance(write, DropBodies)
            self.gone.update(write.ids)
            self.sizes.append(len(write.ids))


class TwinNetwork:
    def __init__(self, peers: dict[str, str]) -> None:
        self.connected = peers

    def peers(self) -> tuple[Any, ...]:
        named = [
            SimpleNamespace(peer_id=peer, status=SimpleNamespace(store=store)) for peer, store in self.connected.items()
        ]
        return (*named, SimpleNamespace(peer_id="silent", status=None))


class Node:
    """A node that holds a result of BOB's and one of its own for each of `ALL`."""

    def __init__(self, store: StoreRole = "share", cap: int = 2**40, peers: dict[str, str] = OTHERS) -> None:
        self.ledger: Ledger = ledger_of(MADE.project, ADA, BOB)
        self.store, self.network = TwinStore(), TwinNetwork(dict(peers))
        self.said: list[str] = []
        self.wanted: list[bytes] = []
        self.own, self.others = self.hold(ADA), self.hold(BOB)
        disk, network = cast(Any, (self.store, self.network))
        self.keeping = Keeping(ADA.public, self.ledger, disk, network, Change(), now, self.said.append, store, cap)

    def hold(self, author: Identity) -> list[bytes]:
        ids = []
        for chunk, item in ALL:
            result, _ = make_result(MADE.project, chunk, [MADE.row(chunk, item, author.peer_id)])
            envelope = seal(author, "result", result)
            self.ledger.add(envelope, result)
            self.ledger.complete(envelope.id, author.public, result, 0)
            ids.append(envelope.id)
        return ids

    def want_back(self, ids: Sequence[bytes]) -> None:
        self.wanted += ids

    async def live(self, seconds: float = LONG) -> None:
        with trio.move_on_after(seconds):
            await self.keeping.run(self.want_back)

    @property
    def disk(self) -> int:
        return sum(DISK_BYTES * result.raw for _, result in self.ledger.results.values())


@simulated
async def test_a_node_with_a_share_drops_most_of_what_others_made_and_nothing_of_its_own() -> None:
    node = Node()
    await node.live()
    assert 0.4 * len(node.others) < len(node.store.gone) < 0.9 * len(node.others)
    assert node.store.gone <= set(node.others)
    assert max(node.store.sizes) <= DROP
    assert node.ledger.items_done == len(ALL)
    assert (node.said, node.wanted) == ([], [])


@simulated
async def test_nothing_is_dropped_before_the_others_had_time_to_fetch_it() -> None:
    node = Node()
    await node.live(SETTLE - 1)
    assert not node.store.gone
    await node.live(2 * REVIEW_EVERY)
    assert node.store.gone


@simulated
async def test_few_nodes_that_store_are_no_reason_to_drop() -> None:
    for peers in ({}, dict.fromkeys(OTHERS, "none"), dict(list(OTHERS.items())[:4])):
        node = Node(peers=peers)
        await node.live()
        assert not node.store.gone


@simulated
async def test_nodes_that_are_gone_are_no_reason_to_drop() -> None:
    node = Node()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.live, SETTLE + REVIEW_EVERY)
        await trio.sleep(SETTLE - 100)
        node.network.connected = {}  # they were seen a moment ago, and are gone
    assert not node.store.gone


@simulated
async def test_an_archive_and_a_full_node_within_its_quota_keep_everything() -> None:
    for node in (Node("archive", cap=1), Node("full")):
        await node.live()
        assert not node.store.gone
        assert node.keeping.role in ("archive", "full")
        assert not node.said


@simulated
async def test_a_full_node_over_its_quota_says_so_once_and_keeps_a_share() -> None:
    node = Node("full", cap=3 * 1024**3)
    node.keeping._cap = node.disk - 1
    await node.live()
    assert node.keeping.role == "share"
    assert len(node.said) == 1
    assert "--store-cap" in node.said[0]
    assert node.store.gone


@simulated
async def test_a_node_that_was_over_its_quota_does_not_fetch_everything_again_when_it_starts_again() -> None:
    node = Node("full", cap=1)
    node.store.gone = set(node.others)
    await node.live(SEEN_FOR - 1)
    assert not node.wanted
    node = Node("full")
    node.store.gone = set(node.others)
    await node.live(1)
    assert set(node.wanted) == set(node.others)  # with more room it does


@simulated
async def test_a_crowded_node_drops_more_and_takes_back_less() -> None:
    roomy, crowded = Node(), Node(cap=1)
    for node in (roomy, crowded):
        await node.live()
    assert roomy.store.gone < crowded.store.gone
    assert len(crowded.store.gone) < len(crowded.others)
    before = set(crowded.store.gone)
    crowded.network.connected = dict(list(OTHERS.items())[:1])
    await crowded.live()
    assert set(crowded.wanted) == before  # of two nodes each is sure to keep everything


@simulated
async def test_what_is_dropped_for_want_of_room_is_no_more_than_needed() -> None:
    node = Node(peers=dict(list(OTHERS.items())[:4]))  # with five nodes there is nothing that is not its share
    node.keeping._cap = node.disk - 10 * DISK_BYTES * 60
    await node.live()
    sizes = [DISK_BYTES * node.ledger.results[id_][1].raw for id_ in node.store.gone]
    assert node.disk - sum(sizes) <= node.keeping._cap < node.disk - sum(sizes) + max(sizes)
    assert node.disk - sum(sizes) > ROOMY * node.keeping._cap
    assert not node.wanted  # and it stays away


@simulated
async def test_no_more_is_taken_back_than_there_is_room_for() -> None:
    node = Node(peers=dict(list(OTHERS.items())[:4]))
    node.store.gone = set(node.others)
    one = DISK_BYTES * node.ledger.results[node.others[0]][1].raw
    node.keeping._cap = int((node.disk - len(node.others) * one + 70 * one) / ROOMY)
    await node.live(SEEN_FOR + REVIEW_EVERY)
    sure = len(node.wanted) - 70  # of five nodes two take each body back also without room
    assert 10 < sure < 30


@simulated
async def test_what_has_become_its_own_is_wanted_back_and_what_was_redacted_is_not() -> None:
    node = Node()
    await node.live()
    gone = set(node.store.gone)
    chunk = node.ledger.results[min(gone)][1].chunk
    ruling = Redact(MADE.project.m, chunk, 0, 64, b"\xff" * 8, "private", NOW)
    node.ledger.add(seal(COORDINATOR, "redact", ruling), ruling)
    node.network.connected = dict(list(OTHERS.items())[:3])
    await node.live()
    left = {id_ for id_ in gone if node.ledger.results[id_][1].chunk != chunk}
    assert set(node.wanted) == left
    assert all(node.keeping.needs_again(id_) for id_ in left)
    first = min(left)
    assert node.keeping.returned(first)
    assert not node.keeping.needs_again(first)
    assert not node.keeping.returned(first)
