"""What has happened on this node since it started, as plain numbers, for status and metrics.

Pure. Whoever does a thing counts it in place: `counters.gossip["ignore"] += 1`.

Always holds: only names that are written in the code are keys, so nothing here grows with what strangers do; the bytes
of at most MAX_PEERS peers are kept apart, and those of the others in one sum.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from p2pcap.swarm.peers import MAX_PEERS


@dataclass
class Counters:
    """Events by what became of them."""

    gossip: Counter[str] = field(default_factory=Counter)
    """Gossip messages by verdict: accept, ignore, reject."""
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests of ours by name and outcome: ok, failed, timeout."""
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests of peers by name and outcome: ok, failed, timeout, refused."""
    reconciliations: Counter[str] = field(default_factory=Counter)
    """Conversations of ours by outcome: done, failed, cut_off, no_place."""
    dials: Counter[str] = field(default_factory=Counter)
    """Addresses dialled: connected, failed."""
    bans: int = 0
    trimmed: int = 0
    """Connections closed to make room for newcomers."""
    refused: int = 0
    """Connections that were let in no further than their handshake."""


@dataclass
class Tally:
    """Bytes sent to and received from one peer."""

    sent: int = 0
    received: int = 0


class Traffic:
    """The bytes on all connections of a node, with the framing of the libp2p layers and without TCP's."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Tally] = OrderedDict()
        self._forgotten = Tally()

    def of(self, peer: str) -> Tally:
        """What to add the peer's bytes to. Whose connection opened longest ago is forgotten first."""
        if peer not in self._of:
            self._of[peer] = Tally()
            if len(self._of) > MAX_PEERS:
                self._forget(next(iter(self._of)))
        self._of.move_to_end(peer)
        return self._of[peer]

    @property
    def sent(self) -> int:
        """Bytes sent to everybody."""
        return self._forgotten.sent + sum(tally.sent for tally in self._of.values())

    @property
    def received(self) -> int:
        """Bytes received from everybody."""
        return self._forgotten.received + sum(tally.received for tally in self._of.values())

    def _forget(self, peer: str) -> None:
        gone = self._of.pop(peer)
        self._forgotten.sent += gone.sent
        self._forgotten.received += gone.received
