"""What a node keeps and drops, and when it says so."""

from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import trio

from p2pcap.envelope import seal
from p2pcap.identity import Identity
from p2pcap.ledger.rulings import Redact
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.keeping import DROP, PAUSE, REVIEW_EVERY, ROOMY, SETTLE, Keeping
from p2pcap.node.proofs import AT_ONCE, REST, WITHIN
from p2pcap.node.shares import DISK_BYTES, SEEN_FOR, SURE, StoreRole
from p2pcap.store.writes import DropBodies, Write
from tests.makers import ADA, BOB, COORDINATOR, EVE, NOW, ledger_of, make_project, make_result
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
    """Peers that hold everything, but for the `liars`, who hold nothing, and what is `missing` with one of them."""

    def __init__(self, peers: dict[str, str]) -> None:
        self.connected = peers
        self.bodies: dict[bytes, bytes] = {}
        self.liars: set[str] = set()
        self.missing: set[tuple[str, bytes]] = set()
        self.asked: list[tuple[float, str, tuple[bytes, ...]]] = []
        self.served: list[tuple[str, bytes]] = []
        self.asking = self.most = 0
        self.patience = 0.1
        self.served_first = trio.Event()
        self.asked_first = trio.Event()

    def peers(self) -> tuple[Any, ...]:
        named = [
            SimpleNamespace(peer_id=peer, status=SimpleNamespace(store=store)) for peer, store in self.connected.items()
        ]
        return (*named, SimpleNamespace(peer_id="silent", status=None))

    async def fetch(
        self, kind: str, wanted: Sequence[bytes], peers: Sequence[str], verify: Callable[[bytes, bytes], bool], cap: int
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        (peer,) = peers
        self.asked.append((trio.current_time(), peer, tuple(wanted)))
        self.asked_first.set()
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            await trio.sleep(self.patience)
            for root in wanted:
                held = peer in self.connected and peer not in self.liars and (peer, root) not in self.missing
                if held and kind == "body" and verify(root, self.bodies[root]):
                    assert len(self.bodies[root]) <= cap
                    self.served.append((peer, root))
                    self.served_first.set()
                    yield root, self.bodies[root]
        finally:
            self.asking -= 1


class Node:
    """A node that holds a result of BOB's and one of its own for each of `ALL`."""

    def __init__(self, store: StoreRole = "share", cap: int = 2**40, peers: dict[str, str] = OTHERS) -> None:
        self.ledger: Ledger = ledger_of(MADE.project, ADA, BOB, EVE)
        self.store, self.network = TwinStore(), TwinNetwork(dict(peers))
        self.said: list[str] = []
        self.wanted: list[bytes] = []
        self.own, self.others = self.hold(ADA), self.hold(BOB)
        disk, network = cast(Any, (self.store, self.network))
        self.keeping = Keeping(ADA.public, self.ledger, disk, network, Change(), now, self.said.append, store, cap)

    def hold(self, author: Identity, text_of: Identity | None = None) -> list[bytes]:
        """Results of `author`; with `text_of` their bodies are those of another's."""
        ids, text = [], (text_of or author).peer_id
        for chunk, item in ALL:
            result, body = make_result(MADE.project, chunk, [MADE.row(chunk, item, text)])
            self.network.bodies[result.root] = body.data
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


def holders(node: Node, result: bytes) -> set[str]:
    """The peers that handed over the body of `result`."""
    root = node.ledger.results[result][1].root
    return {peer for peer, served in node.network.served if served == root}


@simulated
async def test_nothing_is_dropped_on_the_word_of_peers_that_hold_nothing() -> None:
    for word in ("full", "share", "archive"):
        node = Node(cap=1, peers=dict.fromkeys(OTHERS, word))
        node.network.liars = set(OTHERS)
        await node.live()
        assert not node.store.gone
        assert node.network.asked


@simulated
async def test_what_is_dropped_was_handed_over_by_two_and_what_one_has_stays() -> None:
    node = Node(cap=1)
    node.network.liars = set(list(OTHERS)[1:])  # one holds everything, which is one too few
    await node.live()
    assert not node.store.gone
    node = Node(cap=1)
    await node.live()
    assert all(len(holders(node, id_)) == SURE for id_ in node.store.gone)


@simulated
async def test_what_the_best_do_not_have_is_asked_of_the_next() -> None:
    node = Node()
    lacking, others = list(OTHERS)[:6], list(OTHERS)[6:]
    roots = [node.ledger.results[id_][1].root for id_ in node.others]
    node.network.missing = {(peer, root) for peer in lacking for root in roots[::2]}
    await node.live()
    dropped = {node.ledger.results[id_][1].root for id_ in node.store.gone}
    assert dropped & set(roots[::2])
    assert not {(peer, root) for peer, root in node.network.served if root in roots[::2]} & node.network.missing
    assert {peer for peer, root in node.network.served if root in roots[::2]} <= set(others)


@simulated
async def test_who_holds_nothing_is_counted_no_more_and_asked_no_more_for_a_while() -> None:
    node = Node(cap=1)
    node.network.liars = set(list(OTHERS)[:6])
    await node.live(SETTLE + REVIEW_EVERY)
    assert not node.network.liars & node.keeping._seen.nodes().keys()
    early = {peer for _, peer, _ in node.network.asked}
    assert node.network.liars <= early
    del node.network.asked[:]
    await node.live(4 * REVIEW_EVERY)
    assert not node.network.liars & {peer for _, peer, _ in node.network.asked}
    assert node.store.gone  # those that hold something are asked in their place


@simulated
async def test_a_body_that_nobody_shows_is_asked_about_ever_more_seldom() -> None:
    node = Node(cap=1)
    root = node.ledger.results[node.others[7]][1].root
    node.network.missing = {(peer, root) for peer in OTHERS}
    await node.live(8 * REST)
    times = sorted({time for time, _, roots in node.network.asked if root in roots})
    rounds = [time for before, time in zip([-REST, *times], times, strict=False) if time > before + 60]
    assert len(rounds) <= 4
    assert all(b - a >= REST for a, b in pairwise(rounds))


@simulated
async def test_peers_are_asked_in_batches_few_at_a_time_and_rest_as_long_as_they_took() -> None:
    for patience, rest in ((0.1, PAUSE), (7.0, 2 * 7.0)):
        node = Node(cap=1)
        node.network.patience = patience
        await node.live(SETTLE + REVIEW_EVERY)
        asked = node.network.asked
        assert max(len(roots) for _, _, roots in asked) <= DROP
        assert node.network.most <= AT_ONCE
        gaps = [later - sooner for (sooner, *_), (later, *_) in pairwise(asked)]
        between = [gap for gap in gaps if gap > 1.5 * patience]  # others are of one batch
        assert between
        assert min(between) >= rest
        assert node.store.gone


@simulated
async def test_peers_that_never_end_their_answers_hold_up_no_review_for_good() -> None:
    node = Node(cap=1)
    node.network.patience = 1e6

    async def come_to_reason() -> None:
        await node.network.asked_first.wait()
        await trio.sleep(1)
        node.network.patience = 0.1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_to_reason)
        await node.live(SETTLE + REVIEW_EVERY + 2 * WITHIN)
    assert node.store.gone


@simulated
async def test_nobody_is_asked_any_more_when_the_node_ends() -> None:
    node = Node(cap=1)
    node.network.patience = 1e6
    await node.live(SETTLE + 2 * REVIEW_EVERY)
    assert node.network.asked
    assert node.network.asking == 0
    assert not node.store.gone


@simulated
async def test_other_bytes_than_those_of_the_body_show_nothing() -> None:
    node = Node(cap=1)
    bodies = node.network.bodies
    junk = dict.fromkeys(bodies, b"no body")
    for served in (dict(zip(bodies, [*bodies.values()][1:] + [*bodies.values()][:1], strict=True)), junk):
        node.network.bodies = served
        await node.live()
        assert node.network.asked
        assert not node.store.gone


@simulated
async def test_who_is_gone_when_the_others_have_shown_it_does_not_count() -> None:
    node = Node(cap=1)

    async def leave() -> None:
        await node.network.served_first.wait()
        node.network.connected = {}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await node.live(SETTLE + REVIEW_EVERY)
    assert node.network.served
    assert not node.store.gone


@simulated
async def test_what_was_redacted_while_the_others_were_asked_is_left_alone() -> None:
    node = Node(cap=1)
    node.network.patience = 20.0

    async def redact() -> None:
        await node.network.asked_first.wait()
        for chunk in range(len(MADE.items)):
            ruling = Redact(MADE.project.m, chunk, 0, 64, b"\xff" * 8, "private", NOW)
            node.ledger.add(seal(COORDINATOR, "redact", ruling), ruling)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(redact)
        await node.live()
    assert node.network.served
    assert node.store.sizes == []


@simulated
async def test_equal_bodies_of_two_results_stay_or_go_together() -> None:
    """Else a peer could show the one that it is about to drop, since nodes serve bodies by their roots."""
    node = Node()
    twins = dict(zip(node.others, node.hold(EVE, text_of=BOB), strict=True))
    await node.live()
    assert node.store.gone
    assert all((one in node.store.gone) == (other in node.store.gone) for one, other in twins.items())
