"""A home router's address translation, as RFC 4787 and RFC 5382 name its kinds.

Pure; time in seconds is passed in. Mapping is endpoint-independent (one public port for each inner address and port,
whoever it sends to) or, where `symmetric`, one for each pair of inner and outer end. Filtering is address- and
port-dependent: in comes only what an inner host has sent something to, and what is for a port that the owner had
forwarded. Whatever else comes is dropped without a word.

Always holds: no two mappings of one protocol share a public port; forwarded ports are below FIRST_PORT.
"""

from dataclasses import dataclass, field

from tests.hosts.packets import Endpoint, Packet, readdressed

FIRST_PORT = 30_000
IDLE_SECONDS = 300.0
"""A mapping that nothing went out of for so long is forgotten, and what it let in."""


@dataclass
class Mapping:
    """A public port that stands for `inner`; `admits` says until when each outer end may send to it."""

    inner: Endpoint
    port: int
    until: float = 0.0
    admits: dict[Endpoint, float] = field(default_factory=dict)


class Nat:
    """One router with one public address."""

    def __init__(self, public: str, symmetric: bool = False) -> None:
        self.public = public
        self.symmetric = symmetric
        self._by_inner: dict[tuple[int, Endpoint, Endpoint | None], Mapping] = {}
        self._by_port: dict[tuple[int, int], Mapping] = {}
        self._next_port = FIRST_PORT
        self._forwarded: dict[tuple[int, int], Endpoint] = {}

    def forward(self, protocol: int, inner: Endpoint) -> None:
        """Let anybody in at the public port with the number of this inner one, as the router's owner can set it."""
        self._forwarded[protocol, inner.port] = inner

    def outbound(self, packet: Packet, now: float) -> Packet | None:
        """The packet as it leaves the router; None for one without ports."""
        if not packet.ported:
            return None
        if self._forwarded.get((packet.protocol, packet.source.port)) == packet.source:
            return readdressed(packet, Endpoint(self.public, packet.source.port), packet.target)
        mapping = self._mapping(packet, now)
        mapping.until = mapping.admits[packet.target] = now + IDLE_SECONDS
        return readdressed(packet, Endpoint(self.public, mapping.port), packet.target)

    def inbound(self, packet: Packet, now: float) -> Packet | None:
        """The packet as an inner host gets it; None when no inner host sent anything to where it comes from."""
        forwarded = self._forwarded.get((packet.protocol, packet.target.port))
        if forwarded is not None:
            return readdressed(packet, packet.source, forwarded)
        mapping = self._by_port.get((packet.protocol, packet.target.port))
        if mapping is None or mapping.admits.get(packet.source, 0.0) <= now:
            return None
        return readdressed(packet, packet.source, mapping.inner)

    def _mapping(self, packet: Packet, now: float) -> Mapping:
        key = (packet.protocol, packet.source, packet.target if self.symmetric else None)
        mapping = self._by_inner.get(key)
        if mapping is None or mapping.until <= now:
            if mapping is not None:
                del self._by_port[packet.protocol, mapping.port]
            mapping = Mapping(packet.source, self._next_port)
            self._next_port += 1
            self._by_inner[key] = self._by_port[packet.protocol, mapping.port] = mapping
        return mapping
