"""How long a healed partition takes until all nodes hold the same set, in simulated seconds.

Nodes are those of tests/simulation: real ledgers, intake and sync with real messages and signatures, over connections
in memory that delay each message by 20 to 300 ms. Each half of the swarm begins with results that the other lacks. At
the moment that counts, connections across become possible again; each pair needs up to 3 s to find itself connected.
Nobody gossips old statements, so all of it is reconciliation. Bodies are left out.

The baseline is the time until the first two nodes of different halves hold the same.
"""

import random
from collections.abc import Iterator
from itertools import combinations

import trio

from benchmarks.report import Line, Lines, at_most
from benchmarks.statements import Made as Job
from benchmarks.statements import make
from p2pcap.envelope import Envelope
from p2pcap.identity import Identity
from p2pcap.store.writes import PutStatement
from tests.makers import NOW, Made
from tests.simulation import scheduling
from tests.simulation.memory import Memory
from tests.simulation.node import Life, Make, SimulatedNode
from tests.simulation.wires import Wires
from tests.simulation.world import World

NODES = 30
NEIGHBOURS = 8
APART = 938
"""Results that each half makes meanwhile: 60,000 captions."""
SEEDS = (1, 2, 3)
GOAL = 10.0
LOOK_EVERY = 0.25


def run() -> Lines:
    """One line for each seed, and the worst."""
    times = [heal(seed) for seed in SEEDS]
    for seed, (first, all_) in zip(SEEDS, times, strict=True):
        yield Line(f"healing.seed_{seed}", all_, "simulated s", baseline=first)
    worst = max(times, key=lambda pair: pair[1])
    yield at_most("healing.equal_sets", worst[1], "simulated s", GOAL, baseline=worst[0])


def heal(seed: int) -> tuple[float, float]:
    """Seconds from the end of the partition until the first pair across, and until all nodes, hold the same."""
    found: list[float] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            found.extend(await _swarm(seed, nursery))
            nursery.cancel_scope.cancel()

    scheduling.run(seed, main)
    return found[0], found[1]


async def _swarm(seed: int, nursery: trio.Nursery) -> tuple[float, float]:
    world, job = World(seed), make(2 * APART)
    wires, rng = Wires(world), random.Random(seed)
    nodes = list(_nodes(world, wires, job))
    halves = [nodes[: NODES // 2], nodes[NODES // 2 :]]
    for half, results in zip(halves, _results(job), strict=True):
        for node in half:
            for envelope in results:
                node.disk.apply(PutStatement(envelope, NOW))
    names = [node.identity.peer_id for node in nodes]
    for one, other in rng.sample(list(combinations(names, 2)), NODES * NEIGHBOURS // 2):
        wires.line(one, other)
    wires.part({node.identity.peer_id for node in halves[0]})
    nursery.start_soon(world.run)
    for node in nodes:
        nursery.start_soon(node.start)
    await trio.sleep(10)
    wires.heal()
    return await _until_equal(halves)


async def _until_equal(halves: list[list[SimulatedNode]]) -> tuple[float, float]:
    healed, first = trio.current_time(), 0.0
    while True:
        await trio.sleep(LOOK_EVERY)
        one, other = ({node.ledger.index.digest for node in half} for half in halves)
        if one & other and not first:
            first = trio.current_time() - healed
        if len(one | other) == 1:
            return first, trio.current_time() - healed


def _nodes(world: World, wires: Wires, job: Job) -> Iterator[SimulatedNode]:
    made = Made(job.project, ((),) * len(job.project.counts))
    memory, lives = Memory(), dict[str, Life]()
    for number in range(NODES):
        identity = Identity.from_seed(number.to_bytes(32, "big"))
        yield SimulatedNode(world, wires, made, memory, lives, f"n{number}", identity, Make(volunteer=False))


def _results(job: Job) -> list[list[Envelope]]:
    """The grant and its author's results, for either half; the times are those of the simulated world."""
    return [[job.grant, *(job.header(number) for number in range(start, start + APART))] for start in (0, APART)]
