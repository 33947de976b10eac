"""Getting bodies: everybody's turn comes, nothing is asked for in a loop, and what is not needed is not downloaded."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Redact, Void
from p2pcap.node.bodies import PAGE, Bodies
from p2pcap.node.change import Change
from p2pcap.node.keeping import Keeping
from p2pcap.node.shares import StoreRole
from p2pcap.node.wishes import RETRY, RETRY_AT_MOST
from p2pcap.project.items import Item
from p2pcap.store.writes import DropBodies, PutStatement, Write
from tests.makers import ADA, BOB, COORDINATOR, EVE, NOW, claim_record, ledger_of, make_project, make_result
from tests.simulation.store import Disk
from tests.twins import now, simulated

MADE = make_project((64, 64))


class TwinStore:
    """A store whose commits are at once."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    async def commit(self, *writes: Write) -> None:
        await trio.lowlevel.checkpoint()
        for write in writes:
            self.disk.apply(write)

    async def bodies_missing(self, after: int, limit: int) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return self.disk.missing(after, limit)

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return [self.disk.statements[id_].data for id_ in ids]

    async def dropped(self) -> set[bytes]:
        await trio.lowlevel.checkpoint()
        return set(self.disk.unkept)


class TwinNetwork:
    """One peer that has `held`, by root. An exchange takes a tenth of a second."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.asked: list[tuple[float, bytes]] = []
        self.connected = ["one"]
        self.seen: Callable[[bytes], None] = lambda root: None

    def peers(self) -> tuple[Any, ...]:
        return tuple(SimpleNamespace(peer_id=peer, status=None) for peer in self.connected)

    async def fetch(
        self, kind: str, wanted: Sequence[bytes], peers: None, verify: Callable[[bytes, bytes], bool], cap: int
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        self.asked += [(trio.current_time(), root) for root in wanted]
        await trio.sleep(0.1)
        for root in wanted:
            self.seen(root)
            if root in self.held and verify(root, self.held[root]):
                yield root, self.held[root]


class TwinFetching:
    """Item lists, but for the chunks in `lacks`, which never come."""

    def __init__(self) -> None:
        self.lacks: set[int] = set()

    async def items(self, chunk: int) -> tuple[Item, ...]:
        await trio.lowlevel.checkpoint()
        if chunk in self.lacks:
            await trio.sleep_forever()
        return MADE.items[chunk]


class Node:
    """What is around `bodies`."""

    def __init__(self, store: StoreRole = "full") -> None:
        self.ledger = ledger_of(MADE.project, ADA, BOB, EVE)
        self.disk, self.network, self.fetching = Disk(), TwinNetwork(), TwinFetching()
        disk, network, fetching = cast(Any, (TwinStore(self.disk), self.network, self.fetching))
        change, say = Change(), lambda line: None
        self.keeping = Keeping(COORDINATOR.public, self.ledger, disk, network, change, now, say, store, 2**40)
        self.bodies = Bodies(self.ledger, disk, network, fetching, change, now, self.keeping)

    @asynccontextmanager
    async def running(self, seconds: float) -> AsyncGenerator[None, None]:
        """The task runs for so long after what the caller does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.bodies.run)
            yield
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()

    def result(self, author: Identity, chunk: int = 0, first: int = 0, served: bool = True) -> tuple[Envelope, Result]:
        """A header that is in the set; its body is with the peer if `served`."""
        result, body = make_result(MADE.project, chunk, [MADE.row(chunk, first, author.peer_id)])
        if served:
            self.network.held[result.root] = body.data
        return self.add(seal(author, "result", result), result)

    def junk(self, author: Identity, number: int) -> tuple[Envelope, Result]:
        """A header whose body nobody has."""
        like, _ = make_result(MADE.project, 0, [MADE.row(0, 0)])
        root = number.to_bytes(32)
        result = Result(**{name: getattr(like, name) for name in like.__struct_fields__} | {"root": root})
        return self.add(seal(author, "result", result), result)

    def add(self, envelope: Envelope, result: Result) -> tuple[Envelope, Result]:
        self.disk.apply(PutStatement(envelope, now()))
        self.ledger.add(envelope, result)
        return envelope, result

    def rule(self, ruling: Redact | Void) -> None:
        kind = "redact" if isinstance(ruling, Redact) else "void"
        self.ledger.add(seal(COORDINATOR, kind, ruling), ruling)

    def has(self, pair: tuple[Envelope, Result]) -> bool:
        return self.ledger.held(pair[0].id) is not None

    def asks(self, pair: tuple[Envelope, Result]) -> list[float]:
        return [time for time, root in self.network.asked if root == pair[1].root]


def redaction() -> Redact:
    return Redact(MADE.project.m, 0, 0, 1, b"\1" + bytes(7), "private", NOW)


@simulated
async def test_bodies_behind_more_than_a_page_of_useless_ones_are_asked_for() -> None:
    node = Node()
    voided = [node.junk(EVE, number) for number in range(PAGE)]
    for start in range(0, PAGE, 8):
        node.rule(Void(MADE.project.m, tuple(e.id for e, _ in voided[start : start + 8]), "spam", (), NOW))
    for number in range(PAGE, 3 * PAGE):
        node.junk(BOB, number)
    last = node.result(ADA)
    await node.bodies.want_stored()
    assert len(node.bodies) == PAGE  # not all that is stored at once
    async with node.running(10):
        pass
    assert node.has(last)
    assert not {root for _, root in node.network.asked} & {result.root for _, result in voided}
    assert len({root for _, root in node.network.asked}) == 2 * PAGE + 1


@simulated
async def test_one_authors_junk_does_not_delay_another_author() -> None:
    node = Node()
    for number in range(4_096):
        node.bodies.want(*node.junk(EVE, number))
    honest = node.result(ADA)
    node.bodies.want(*honest)
    async with node.running(1):
        pass
    assert node.has(honest)


@simulated
async def test_what_nobody_has_is_asked_for_ever_more_seldom() -> None:
    node = Node()
    junk = node.junk(EVE, 1)
    node.bodies.want(*junk)
    async with node.running(3_600):
        pass
    times = node.asks(junk)
    gaps = [round(after - before) for before, after in pairwise(times)]
    assert gaps[:4] == [round(RETRY * 2**number) for number in range(4)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == RETRY_AT_MOST


@simulated
async def test_a_new_peer_is_asked_for_what_nobody_had() -> None:
    node = Node()
    late = node.result(ADA, served=False)
    node.bodies.want(*late)
    async with node.running(3):
        await trio.sleep(1_000)
        node.network.held |= {late[1].root: make_result(MADE.project, 0, [MADE.row(0, 0, ADA.peer_id)])[1].data}
        node.network.connected.append("two")
    assert node.has(late)


@simulated
async def test_a_chunk_without_an_item_list_does_not_hold_up_others() -> None:
    node = Node()
    node.fetching.lacks.add(1)
    stuck, honest = node.result(EVE, chunk=1), node.result(ADA)
    node.bodies.want(*stuck)
    node.bodies.want(*honest)
    async with node.running(10):
        pass
    assert node.has(honest)
    assert not node.asks(stuck)  # it could not have been checked
    later = node.result(BOB)
    node.bodies.want(*later)
    node.fetching.lacks.clear()
    async with node.running(400):
        pass
    assert node.has(later)


@simulated
async def test_a_body_waits_for_its_item_list_and_comes_then() -> None:
    node = Node()
    node.fetching.lacks.add(1)
    stuck = node.result(EVE, chunk=1)
    node.bodies.want(*stuck)
    async with node.running(400):
        await trio.sleep(100)
        node.fetching.lacks.clear()
    assert node.has(stuck)


@simulated
async def test_what_is_redacted_or_void_is_wanted_no_more() -> None:
    node = Node()
    redacted, voided = node.result(ADA), node.result(BOB, chunk=1)
    node.bodies.want(*redacted)
    node.bodies.want(*voided)
    node.rule(redaction())
    node.rule(Void(MADE.project.m, (voided[0].id,), "wrong", (), NOW))
    async with node.running(60):
        pass
    assert (len(node.bodies), node.network.asked) == (0, [])


@simulated
async def test_what_is_redacted_while_it_comes_is_downloaded_once() -> None:
    node = Node()
    redacted = node.result(ADA)
    node.network.seen = lambda root: node.rule(redaction())
    node.bodies.want(*redacted)
    async with node.running(60):
        pass
    assert Counter(root for _, root in node.network.asked) == {redacted[1].root: 1}
    assert (len(node.bodies), node.has(redacted)) == (0, False)


@simulated
async def test_a_body_that_does_not_fit_its_header_is_void() -> None:
    node = Node()
    result, body = make_result(MADE.project, 0, [MADE.row(1, 5)])  # another chunk's image
    pair = node.add(seal(EVE, "result", result), result)
    node.network.held[result.root] = body.data
    node.bodies.want(*pair)
    async with node.running(60):
        pass
    assert (node.bodies.void, len(node.asks(pair))) == ({pair[0].id}, 1)


@simulated
async def test_an_archive_asks_also_for_what_counts_for_nothing() -> None:
    for store, held in (("full", False), ("archive", True)):
        node = Node(cast(StoreRole, store))
        voided = node.result(BOB)
        node.rule(Void(MADE.project.m, (voided[0].id,), "wrong", (), NOW))
        await node.bodies.want_stored()
        async with node.running(10):
            pass
        assert (voided[0].id in node.disk.bodies, node.ledger.items_done) == (held, 0)


@simulated
async def test_what_was_dropped_is_asked_for_when_it_is_wanted_back_and_not_before() -> None:
    """It counts all the time, and an old body is no progress of its author's."""
    node = Node()
    kept = [node.result(ADA, 0, first) for first in range(3)]
    for pair in kept:
        node.bodies.want(*pair)
    async with node.running(10):
        pass
    node.disk.apply(DropBodies([pair[0].id for pair in kept[:2]]))
    node.network.asked.clear()
    await node.bodies.want_stored()
    node.bodies.want(*kept[0])
    assert len(node.bodies) == 0
    claims = seal(ADA, "claim", claim_record(MADE.project, {1: 1}))
    node.ledger.claims.hold(ADA.public, claim_record(MADE.project, {1: 1}), claims.data, now())
    lease = [one.expires for one in (node.ledger.claims.of(ADA.public),) if one is not None]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.keeping.run, node.bodies.want_back)  # full, so it wants all of them back
        async with node.running(10):
            pass
        nursery.cancel_scope.cancel()
    assert {root for _, root in node.network.asked} == {pair[1].root for pair in kept[:2]}
    assert (node.disk.unkept, len(node.disk.bodies), node.ledger.items_done) == ({}, 3, 3)
    assert lease == [one.expires for one in (node.ledger.claims.of(ADA.public),) if one is not None]
