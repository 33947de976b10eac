"""What the screens show at one moment: the node's newest snapshot, and what the UI itself remembers.

No Textual here: screens are functions of a Moment, tested as values.
"""

from collections import deque
from dataclasses import dataclass, field

from p2pcap.node.snapshot import NodeSnapshot

REMEMBERED = 240
"""Snapshots of which the rates are remembered."""

STALE = 3.0
"""Seconds without a snapshot after which the node is said not to answer."""


@dataclass(frozen=True)
class Moment:
    """A node as it is known at local time `now` (unix seconds).

    `snapshot` is the newest one, None before the first. `trouble` says why there is no newer one ("" while the node
    answers), `silent` that it hangs and has not ended. `rates` are images a second of this node,
    `swarm` of all nodes, oldest first.
    """

    now: float
    snapshot: NodeSnapshot | None = None
    trouble: str = ""
    rates: tuple[float, ...] = ()
    swarm: tuple[float, ...] = ()
    silent: bool = False


@dataclass
class Memory:
    """Rates since the UI was opened. The swarm's rate is how the number of images that are done grows."""

    rates: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    swarm: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _done: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=60))

    def add(self, snapshot: NodeSnapshot) -> None:
        """Remember what a new snapshot says."""
        self.rates.append(snapshot.engine.rate)
        if self._done and snapshot.published <= self._done[-1][0]:
            return
        self._done.append((snapshot.published, snapshot.project.done))
        first, last = self._done[0], self._done[-1]
        if last[0] > first[0]:
            self.swarm.append(max(0.0, (last[1] - first[1]) / (last[0] - first[0])))

    def rates_of(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """This node's and the swarm's, as a Moment has them."""
        return tuple(self.rates), tuple(self.swarm)
