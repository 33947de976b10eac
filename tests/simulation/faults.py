"""Makes happen what a scenario says, and puts everything right in the end.

Always holds: after `calm` no message is lost, no line is cut, and every node that is not gone for good is up.
"""

from collections.abc import Sequence

import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.project.records import SLICE
from tests.makers import COORDINATOR
from tests.simulation.node import SimulatedNode
from tests.simulation.scenario import CALM, Event, Scenario
from tests.simulation.wires import Weather, Wires
from tests.simulation.world import World

STORM = Weather((0.5, 15.0), 0.6, 0.3, 0.3)


class Faults:
    """The hand of fate. Its tasks, and the nodes', live in `nursery`."""

    def __init__(
        self, world: World, wires: Wires, scenario: Scenario, nodes: dict[str, SimulatedNode], nursery: trio.Nursery
    ) -> None:
        self._world = world
        self._wires = wires
        self._scenario = scenario
        self._nodes = nodes
        self._nursery = nursery
        self._versions: dict[bytes, int] = {}
        self._speeds = {name: node.make.image for name, node in nodes.items()}

    async def run(self) -> None:
        """Everything that the scenario has for this world; returns after the last event, in calm."""
        events = [*self._scenario.events, Event(self._scenario.calm_at, "calm")]
        for event in sorted(events, key=lambda event: event.at):
            await trio.sleep_until(event.at)
            self._world.trace("fate", event.what, event.about)
            getattr(self, event.what)(*event.about)

    def start(self, name: str) -> None:
        """The node comes up, if it is not."""
        self._nursery.start_soon(self._nodes[name].start)

    # what goes wrong

    def crash(self, name: str, seconds: float) -> None:
        self._nodes[name].die()
        self._world.later(seconds, lambda: self.start(name))

    def back_up(self, name: str) -> None:
        self._nodes[name].back_up()

    def restore(self, name: str, seconds: float) -> None:
        self._nodes[name].die()
        if not self._nodes[name].gone:
            self._nodes[name].restore()
        self._world.later(seconds, lambda: self.start(name))

    def leave(self, name: str) -> None:
        self._nodes[name].leave()

    def part(self, names: Sequence[str], seconds: float) -> None:
        self._wires.part({self._nodes[name].identity.peer_id for name in names})
        self._world.later(seconds, self._wires.heal)

    def storm(self, seconds: float) -> None:
        self._wires.weather = STORM
        self._world.later(seconds, lambda: self._weather(self._scenario.weather))

    def _weather(self, weather: Weather) -> None:
        self._wires.weather = CALM if trio.current_time() >= self._scenario.calm_at else weather

    def slow(self, name: str, factor: float) -> None:
        self._nodes[name].make.image *= factor

    def jump(self, name: str, seconds: float) -> None:
        self._nodes[name].make.skew += seconds

    def calm(self) -> None:
        """Everything is put right. Nodes whose old neighbours are gone have found others."""
        self._wires.weather = CALM
        self._wires.heal()
        left = [node for node in self._nodes.values() if not node.gone]
        for place, one in enumerate(left):
            one.make.image = self._speeds[one.name]
            self.start(one.name)
            for other in left[:place]:
                self._wires.line(one.identity.peer_id, other.identity.peer_id)

    # what the coordinator says

    def void(self, which: float, _: float) -> None:
        if (picked := self._result(which)) is not None:
            self._rule("void", Void(self._m, (picked[0],), "wrong", (), self._time))

    def confirm(self, which: float, _: float) -> None:
        if (picked := self._result(which)) is not None:
            finding = Finding(self._m, picked[0], picked[1].mask, "ok", "scoring", b"", self._time)
            self._rule("verdict", finding)

    def redact(self, where: float, which: float) -> None:
        chunks = self._scenario.made.items
        chunk = int(where * len(chunks))
        offset = int(which * len(chunks[chunk])) // SLICE * SLICE
        span = min(SLICE, len(chunks[chunk]) - offset)
        mask = 1 << int(which * 1e6) % span
        self._rule("redact", Redact(self._m, chunk, offset, span, mask.to_bytes(8, "little"), "", self._time))

    def ban(self, who: float, how: float) -> None:
        self._ban(who, "all" if how < 0.3 else "unsealed", int(how * 3))

    def lift(self, who: float, how: float) -> None:
        self._ban(who, "none", 0)

    def _ban(self, who: float, scope: str, after: int) -> None:
        authors = [identity.public for _, identity in self._scenario.strangers]
        authors += [identity.public for name, identity, _ in self._scenario.nodes if name != "hub"]
        author = authors[int(who * len(authors))]
        version = self._versions[author] = self._versions.get(author, 0) + 1
        self._rule("ban", Ban(self._m, author, version, after, scope, "", (), self._time))

    @property
    def _m(self) -> bytes:
        return self._scenario.made.project.m

    @property
    def _time(self) -> int:
        return int(self._world.now)

    def _result(self, which: float) -> tuple[bytes, Result] | None:
        node = self._speaker()
        results = list(node.disk.results.items()) if node is not None else []
        if not results:
            return None
        id_, (_, result) = results[int(which * len(results))]
        return id_, result

    def _speaker(self) -> SimulatedNode | None:
        """A node at which the coordinator can say something."""
        return next((node for node in self._nodes.values() if node.life is not None), None)

    def _rule(self, kind: str, record: object) -> None:
        node = self._speaker()
        if node is not None and node.life is not None:
            envelope: Envelope = seal(COORDINATOR, kind, record)
            self._world.trace("rule", kind, envelope.id.hex()[:8])
            node.life.nursery.start_soon(node.life.rule, envelope.data)
