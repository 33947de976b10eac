"""One seed from its beginning to its end."""

import random
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import trio

from p2pcap.ledger import sealing
from p2pcap.ledger.body import Opened, open_rows
from p2pcap.node import bodies, checkpoints
from p2pcap.swarm import sync
from tests.simulation import invariants, scheduling
from tests.simulation.faults import Faults
from tests.simulation.memory import Memory
from tests.simulation.node import Life, SimulatedNode
from tests.simulation.scenario import Scenario, draw
from tests.simulation.wires import Wires
from tests.simulation.world import World

SEAL_EVERY, SEAL_AFTER = 30, 10
"""Seconds between checkpoints, and how old a statement is when it is sealed: a simulated job takes minutes."""

LOOK_EVERY = 5.0
PATIENCE = 3_000.0
"""Simulated seconds after the last event in which everything must be over: twice what a lease and a header without its
body can cost one after the other."""


@lru_cache(maxsize=256)
def _open_rows(data: bytes) -> Opened:
    """What every node finds in the same bytes is worked out once."""
    return open_rows(data)


SMALL: tuple[tuple[ModuleType, dict[str, object]], ...] = (
    (sealing, {"EVERY_SECONDS": SEAL_EVERY, "SETTLE": SEAL_AFTER}),
    (sync, {"STATEMENTS_PAGE": 8, "STIR": 6}),
    (checkpoints, {"PAGE": 8, "BULK": 6}),
    (bodies, {"open_rows": _open_rows}),
)
"""What is changed in real modules: limits so small that a set of some dozens meets them, and what is remembered."""


@dataclass(frozen=True)
class Outcome:
    """What came of a seed: what was broken (nothing, it is hoped), a hash of all that happened, and for people the
    scenario, how long it took in simulated seconds and how much of what happened."""

    seed: int
    broken: list[str]
    digest: str
    scenario: str
    seconds: float
    counted: dict[str, int]

    def __str__(self) -> str:
        said = "".join(f"\n  {why}" for why in self.broken[:12])
        return (
            f"seed {self.seed}: {len(self.broken)} broken after {self.seconds:.0f} s{said}\n{self.scenario}\n"
            f"replay: python -m tests.simulation --seed {self.seed} --trace"
        )


def simulate(seed: int, show: bool = False) -> Outcome:
    """Run a seed."""
    world = World(seed, show)
    scenario = draw(world.branch())

    async def main() -> float:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await _live(world, scenario, nursery)
                scope.cancel()
        return trio.current_time()

    with ExitStack() as small:
        for module, names in SMALL:
            small.enter_context(_changed(module, **names))
        random.seed(seed)
        try:
            seconds = scheduling.run(world.rng.getrandbits(64), main)
        except Exception:  # noqa: BLE001 - whatever comes out of a node is a defect, and belongs to its seed
            seconds = 0.0
            world.broken.append(traceback.format_exc())
    return Outcome(seed, world.broken, world.digest, str(scenario), seconds, dict(world.counted))


@contextmanager
def _changed(module: ModuleType, **names: object) -> Iterator[None]:
    """While this holds, these names of a module are other things."""
    parts = vars(module)
    before = {name: parts[name] for name in names}
    parts.update(names)
    try:
        yield
    finally:
        parts.update(before)


async def _live(world: World, scenario: Scenario, nursery: trio.Nursery) -> None:
    wires, memory = Wires(world), Memory()
    wires.weather = scenario.weather
    lives: dict[str, Life] = {}
    nodes = {
        name: SimulatedNode(world, wires, scenario.made, memory, lives, name, identity, make)
        for name, identity, make in scenario.nodes
    }
    nursery.start_soon(world.run)
    for one, other in scenario.lines:
        wires.line(one, other)
    for node in nodes.values():
        if node.name not in scenario.late:
            nursery.start_soon(node.start)
    for kind, identity in scenario.strangers:
        world.names[identity.peer_id] = kind.__name__
        nursery.start_soon(kind(world, wires, scenario.made, identity).run)
    await Faults(world, wires, scenario, nodes, nursery).run()
    await _wait(world, scenario, [node for node in nodes.values() if not node.gone], memory)


async def _wait(world: World, scenario: Scenario, left: list[SimulatedNode], memory: Memory) -> None:
    with trio.move_on_after(PATIENCE) as waiting:
        while invariants.open_ends(left):  # noqa: ASYNC110 - what may change in many nodes has no common event
            await trio.sleep(LOOK_EVERY)
    if waiting.cancelled_caught:
        world.break_(f"the job does not end: {invariants.open_ends(left)}")
        if any(node.life is None for node in left):
            return
    honest = {identity.peer_id for _, identity, _ in scenario.nodes}
    invariants.check(world, scenario.made, memory, left, honest)
