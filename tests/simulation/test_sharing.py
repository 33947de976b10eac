"""Nodes that share out the bodies: together they hold everything, each far from all, and every one counts all rows."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from p2pcap.identity import Identity
from p2pcap.node.keeping import REVIEW_EVERY, SETTLE
from p2pcap.node.restart import rebuild
from p2pcap.node.shares import COPIES, SEEN_FOR, SURE
from p2pcap.store.writes import PutBatch, Write
from tests.makers import make_project
from tests.simulation import scheduling
from tests.simulation.memory import Memory
from tests.simulation.node import Life, Make, SimulatedNode
from tests.simulation.wires import Wires
from tests.simulation.world import World

MADE = make_project((128,) * 12)
IMAGES = sum(map(len, MADE.items))
FULL = 2**40
"""Bytes of quota that nobody fills."""

SETTLED = SETTLE + SEEN_FOR + 3 * REVIEW_EVERY
"""Seconds after which every node has seen who is there and has gone through its bodies."""


class Node(SimulatedNode):
    """Remembers what it commits."""

    commits: list[Write]

    def committed(self, write: Write) -> None:
        self.commits.append(write)
        super().committed(write)


class Liar(Node):
    """Says that it keeps everything, and never hands over a body."""

    def fall_silent(self) -> None:
        async def nothing(root: bytes) -> bytes | None:
            await trio.lowlevel.checkpoint()
            return None

        assert self.life is not None
        self.life.store.body = nothing  # type: ignore[method-assign]


class Town:
    """Nodes that are all connected."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world, self.nursery = world, nursery
        self.wires, self.memory = Wires(world), Memory()
        self.lives: dict[str, Life] = {}
        self.nodes: list[Node] = []

    def join(self, make: Make, kind: type[Node] = Node) -> Node:
        number = len(self.nodes)
        identity = Identity.from_seed(bytes([40 + number]) * 32)
        shared = self.world, self.wires, MADE, self.memory, self.lives
        node = kind(*shared, f"node {number}", identity, make)
        node.commits = []
        for other in self.nodes:
            self.wires.line(identity.peer_id, other.identity.peer_id)
        self.nodes.append(node)
        self.nursery.start_soon(node.start)
        return node

    @property
    def up(self) -> list[Node]:
        return [node for node in self.nodes if node.life is not None]

    @property
    def copies(self) -> Counter[bytes]:
        """On how many running nodes each body is, zero included."""
        held = Counter(id_ for node in self.up for id_ in node.disk.bodies)
        return Counter({id_: held[id_] for id_ in self.up[0].disk.results})

    def each_counts_all(self) -> bool:
        return all(node.ledger.items_done == IMAGES for node in self.up)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - what may change in many nodes has no common event
            await trio.sleep(5)


@asynccontextmanager
async def town(world: World) -> AsyncGenerator[Town, None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        yield Town(world, nursery)
        nursery.cancel_scope.cancel()


def simulated(test: Callable[[Town], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        world = World(5)

        async def main() -> None:
            async with town(world) as nodes:
                await test(nodes)

        scheduling.run(5, main)
        assert world.broken == []

    return run


def share(cap: int = FULL, volunteer: bool = True) -> Make:
    return Make(capacity=16, volunteer=volunteer, store="share", cap=cap)


async def made(town: Town, *makes: Make) -> None:
    """These nodes join and caption everything."""
    for make in makes:
        town.join(make)
    await trio.sleep(10)
    await town.until(town.each_counts_all)


@simulated
async def test_six_without_room_hold_everything_together_and_each_far_from_all(town: Town) -> None:
    await made(town, *(share(cap=1) for _ in range(6)))
    assert min(town.copies.values()) >= SURE
    await trio.sleep(SETTLED)
    assert town.each_counts_all()
    assert min(town.copies.values()) >= SURE
    for node in town.nodes:
        assert len(node.disk.bodies) < 0.75 * len(town.copies)
        own = {id_ for id_, (author, _) in node.disk.results.items() if author == node.identity.public}
        assert own <= node.disk.bodies.keys()


@simulated
async def test_of_nine_with_room_five_keep_each_body_and_when_one_goes_others_take_its_share(town: Town) -> None:
    await made(town, *(share(volunteer=number < 4) for number in range(9)))
    await trio.sleep(SETTLED)
    before = {node.name: set(node.disk.bodies) for node in town.nodes}
    assert set(town.copies.values()) == {COPIES, COPIES + 1}  # the author may be one more
    gone = town.nodes[-1]
    gone.leave()
    await trio.sleep(SETTLED)
    assert min(town.copies.values()) >= COPIES
    for node in town.up:
        moved = set(node.disk.bodies) ^ before[node.name]
        assert moved <= before[gone.name]
    assert town.each_counts_all()


@simulated
async def test_a_node_that_starts_again_counts_all_and_fetches_nothing(town: Town) -> None:
    await made(town, *(share(cap=1) for _ in range(6)))
    await trio.sleep(SETTLED)
    node = town.nodes[2]
    held, unkept = set(node.disk.bodies), dict(node.disk.unkept)
    assert unkept
    node.die()
    assert rebuild(node.disk.load(), MADE.project).items_done == IMAGES
    node.commits.clear()
    town.nursery.start_soon(node.start)
    await trio.sleep(SETTLED)
    assert node.ledger.items_done == IMAGES
    assert (set(node.disk.bodies), node.disk.unkept) == (held, unkept)
    assert not [write for write in node.commits if isinstance(write, PutBatch)]


@simulated
async def test_a_node_that_keeps_all_gets_all_from_those_that_share(town: Town) -> None:
    await made(town, *(share(cap=1) for _ in range(6)))
    await trio.sleep(SETTLED)
    late = town.join(Make(volunteer=False, store="archive"))
    await trio.sleep(600)
    assert late.disk.bodies.keys() == town.copies.keys()
    assert late.ledger.items_done == IMAGES


@simulated
async def test_over_its_quota_a_full_node_goes_on_with_a_share(town: Town) -> None:
    await made(town, *(share() for _ in range(7)))
    full = town.join(Make(volunteer=False, cap=1))
    await trio.sleep(SETTLED)
    assert full.life is not None
    assert full.life.keeping.role == "share"
    assert full.ledger.items_done == IMAGES
    assert len(full.disk.bodies) < 0.75 * len(town.copies)
    assert full.life.swarm._service.status().store == "share"


@simulated
async def test_what_many_liars_say_makes_nobody_drop_what_they_do_not_hold(town: Town) -> None:
    """Twelve that say they keep everything, and are better placed for nearly every body, against six without room."""
    for _ in range(12):
        town.join(Make(volunteer=False), Liar)
    honest = [town.join(share(cap=1)) for _ in range(6)]
    await trio.sleep(10)
    liars = [node for node in town.nodes if isinstance(node, Liar)]
    for liar in liars:
        liar.fall_silent()
    await town.until(town.each_counts_all)
    await trio.sleep(2 * SETTLED)
    for liar in liars:
        liar.leave()
    assert min(town.copies.values()) >= SURE
    await trio.sleep(2 * SETTLED)
    assert min(town.copies.values()) >= SURE
    assert all(len(node.disk.bodies) < 0.75 * len(town.copies) for node in honest)  # among themselves they share
