"""On disk: a grant that is displaced leaves the database, and what its author did counts there no more."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.grants import grant_for
from p2pcap.ledger.records import Profile
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.intake import Intake
from p2pcap.node.restart import rebuild
from p2pcap.project.ticket import invite
from p2pcap.store.reads import Loaded
from p2pcap.store.store import Store
from tests.makers import ADA, BOB, COORDINATOR, EVE, FOREVER, NOW, TICKET_KEY, make_grant
from tests.unit.store_project import database, sample

SAMPLE = sample(chunks=1, images=64)
PROJECT = SAMPLE.project
AUTHORS = [Identity.from_seed(bytes([60 + number]) * 32) for number in range(4)]


def by_ticket_for_one(author: Identity) -> Envelope:
    invitation = invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, FOREVER, 1)
    return seal(TICKET_KEY, "grant", grant_for(author, PROJECT.m, author.peer_id[-6:], NOW, invitation))


GRANTS = sorted(((by_ticket_for_one(author), author) for author in AUTHORS), key=lambda pair: pair[0].id)


class Node:
    """A node's ledger and store, without its network."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ledger = Ledger(PROJECT)
        self.intake = Intake(ADA, self.ledger, store, Change(), lambda envelope, result: None, lambda: float(NOW))

    async def publish(self, author: Identity, first: int) -> bytes:
        made = SAMPLE.slice(author, 0, first, 8)
        assert (await self.intake.receive([made.envelope.data])).new == 1
        await self.store.commit(made)
        self.ledger.complete(made.envelope.id, author.public, made.result, 0)
        return made.envelope.id

    async def counted(self) -> int:
        """Images with a caption, by the database."""
        return sum(each.rows for each in await self.store.contributions())


def test_a_displaced_grant_goes_and_its_authors_work_with_it(tmp_path: Path) -> None:
    (first, _), (second, late), (third, _), (last, _) = GRANTS

    async def live(node: Node) -> Loaded:
        await node.intake.receive([make_grant(PROJECT, BOB).data, second.data])
        mine, his = await node.publish(late, 0), await node.publish(BOB, 8)
        assert await node.counted() == 16
        received = await node.intake.receive([last.data, first.data, third.data])
        assert received.rejected == 0
        assert await node.counted() == 8
        loaded = await node.store.load()
        held = rebuild(loaded, PROJECT)
        for ledger in (node.ledger, held):
            assert {mine, second.id, last.id, third.id}.isdisjoint(id_ for _, id_ in ledger.index)
            assert {his, first.id} <= {id_ for _, id_ in ledger.index}
            assert ledger.items_done == 8
        return loaded

    loaded = with_node(tmp_path, live)
    assert len(loaded.grants) == 2


def test_grants_that_come_together_displace_each_other(tmp_path: Path) -> None:
    async def live(node: Node) -> Loaded:
        await node.intake.receive([pair[0].data for pair in (GRANTS[2], GRANTS[0], GRANTS[3], GRANTS[1])])
        return await node.store.load()

    loaded = with_node(tmp_path, live)
    assert list(loaded.grants) == [GRANTS[0][0].data]


def test_a_profile_gives_a_name_as_a_grant_does(tmp_path: Path) -> None:
    async def live(node: Node) -> Loaded:
        await node.intake.receive([make_grant(PROJECT, EVE, "Eve").data])
        await node.publish(EVE, 0)
        for name, time in (("Eva", NOW - 1), ("Evelyn", NOW + 1), ("Evi", NOW)):
            await node.intake.receive([seal(EVE, "profile", Profile(PROJECT.m, name, "", time)).data])
        assert node.ledger.name_of(EVE.public) == "Evelyn"
        assert [each.name for each in await node.store.contributions()] == ["Evelyn"]
        return await node.store.load()

    assert rebuild(with_node(tmp_path, live), PROJECT).name_of(EVE.public) == "Evelyn"


def test_what_a_node_says_for_itself_comes_in_the_same_way(tmp_path: Path) -> None:
    async def live(node: Node) -> Loaded:
        await node.intake.receive([make_grant(PROJECT, EVE).data])
        again = await node.intake.receive([make_grant(PROJECT, EVE).data])
        assert (again.new, again.rejected) == (0, 0)
        return await node.store.load()

    assert len(with_node(tmp_path, live).grants) == 1


def with_node(folder: Path, live: Callable[[Node], Awaitable[Loaded]]) -> Loaded:
    """What `live` returns of a node whose intake runs."""

    async def run() -> Loaded:
        store = Store.open(database(folder))
        try:
            await store.commit(*SAMPLE.setup)
            node = Node(store)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.intake.run)
                loaded = await live(node)
                nursery.cancel_scope.cancel()
        finally:
            await store.close()
        return loaded

    return trio.run(run)
