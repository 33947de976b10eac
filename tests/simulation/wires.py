"""The network between simulated nodes: connections, gossip messages and requests, all of them bytes, all of them late.

Faults live here: a message may be delayed, lost, doubled or overtaken, a pair of nodes cut off from each other.

Always holds: nothing passes between two nodes that are not connected; a connection ends as soon as one of the two is
gone, bans the other, or the line between them is cut.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from p2pcap.errors import RequestFailed, Unreachable
from tests.simulation.world import World

REDIAL = (0.2, 3.0)
"""Seconds until two nodes that may be connected are."""


class Host(Protocol):
    """One node's end: what the wires call."""

    @property
    def peer_id(self) -> str:
        """Its name."""

    def accepts(self, peer: str) -> bool:
        """Whether it lets `peer` in."""

    def joined(self, peer: str) -> None:
        """A connection is up."""

    def left(self, peer: str) -> None:
        """It is gone."""

    def hear(self, sender: str, topic: str, data: bytes) -> None:
        """A gossip message came in."""

    def serve(self, peer: str, name: str, data: bytes, answer: "Answer") -> None:
        """A request came in; `answer` takes what is answered, or None to break off. It need never be called."""


Answer = Callable[[bytes | None], None]


@dataclass
class Weather:
    """How bad the network is: seconds of delay, and the chances that a gossip message is lost or doubled, and that a
    request is never answered."""

    delay: tuple[float, float] = (0.02, 0.3)
    loss: float = 0.0
    twice: float = 0.0
    silence: float = 0.0


@dataclass
class _Open:
    """Requests in work between two nodes, to be broken off with their connection."""

    waiting: dict[int, Answer] = field(default_factory=dict)


class Wires:
    """All hosts and what connects them."""

    def __init__(self, world: World) -> None:
        self.weather = Weather()
        self._world = world
        self._rng = world.branch()
        self._hosts: dict[str, Host] = {}
        self._lines: dict[tuple[str, str], None] = {}
        self._cut: set[tuple[str, str]] = set()
        self._up: dict[tuple[str, str], _Open] = {}
        self._dialling: set[tuple[str, str]] = set()
        self._number = 0

    # who may talk to whom

    def line(self, one: str, other: str) -> None:
        """These two know each other's address."""
        self._lines[_pair(one, other)] = None
        self.look()

    def part(self, side: set[str]) -> None:
        """Cut every line between `side` and the rest."""
        self._cut = {pair for pair in self._lines if (pair[0] in side) != (pair[1] in side)}
        self.look()

    def heal(self) -> None:
        """No line is cut any more."""
        self._cut = set()
        self.look()

    def attach(self, host: Host) -> None:
        """A node comes up."""
        self._hosts[host.peer_id] = host
        self.look()

    def detach(self, host: Host) -> None:
        """A node is gone."""
        if self._hosts.get(host.peer_id) is host:
            del self._hosts[host.peer_id]
            self.look()

    def connected(self, one: str, other: str) -> bool:
        """Whether they are connected now."""
        return _pair(one, other) in self._up

    def neighbours(self, peer: str) -> list[str]:
        """Whoever `peer` is connected to, in a fixed order."""
        return [a if b == peer else b for a, b in self._up if peer in (a, b)]

    def look(self) -> None:
        """Hang up where a connection may not be, dial where one may."""
        for pair in self._lines:
            if self._may(pair):
                if pair not in self._up and pair not in self._dialling:
                    self._dialling.add(pair)
                    self._world.later(self._rng.uniform(*REDIAL), lambda pair=pair: self._dial(pair))  # type: ignore[misc]
            elif pair in self._up:
                self._hang_up(pair)

    def _may(self, pair: tuple[str, str]) -> bool:
        one, other = (self._hosts.get(peer) for peer in pair)
        if one is None or other is None or pair in self._cut:
            return False
        return one.accepts(pair[1]) and other.accepts(pair[0])

    def _dial(self, pair: tuple[str, str]) -> None:
        self._dialling.discard(pair)
        if self._may(pair) and pair not in self._up:
            self._up[pair] = _Open()
            self._world.trace("connected", *map(self._world.name, pair))
            self._hosts[pair[0]].joined(pair[1])
            self._hosts[pair[1]].joined(pair[0])

    def _hang_up(self, pair: tuple[str, str]) -> None:
        self._world.trace("disconnected", *map(self._world.name, pair))
        for answer in list(self._up.pop(pair).waiting.values()):
            answer(None)
        for peer, other in (pair, pair[::-1]):
            if peer in self._hosts:
                self._hosts[peer].left(other)

    # what they say

    def gossip(self, sender: str, receiver: str, topic: str, data: bytes) -> None:
        """Send a message along one connection."""
        copies = 1 if self._rng.random() >= self.weather.loss else 0
        copies += self._rng.random() < self.weather.twice
        connection = self._up.get(_pair(sender, receiver))
        for _ in range(copies if connection is not None else 0):
            self._world.later(
                self._rng.uniform(*self.weather.delay), lambda: self._deliver(connection, sender, receiver, topic, data)
            )

    def _deliver(self, connection: _Open | None, sender: str, receiver: str, topic: str, data: bytes) -> None:
        if self._up.get(_pair(sender, receiver)) is connection:
            self._hosts[receiver].hear(sender, topic, data)

    async def request(self, sender: str, receiver: str, name: str, data: bytes) -> bytes:
        """The answer's bytes. Raises Unreachable, or RequestFailed when it was broken off; it may never return."""
        connection = self._up.get(_pair(sender, receiver))
        if connection is None:
            raise Unreachable(f"Peer {receiver} is not connected.")
        self._number += 1
        number, ended = self._number, trio.Event()
        said: list[bytes | None] = []

        def answer(value: bytes | None) -> None:
            if number in connection.waiting:
                del connection.waiting[number]
                said.append(value)
                ended.set()

        def reply(value: bytes | None) -> None:
            self._world.later(self._rng.uniform(*self.weather.delay), lambda: answer(value))

        def arrive() -> None:
            if number in connection.waiting and self._up.get(_pair(sender, receiver)) is connection:
                self._hosts[receiver].serve(sender, name, data, reply)

        connection.waiting[number] = answer
        if self._rng.random() >= self.weather.silence:
            self._world.later(self._rng.uniform(*self.weather.delay), arrive)
        try:
            await ended.wait()
        finally:
            connection.waiting.pop(number, None)
        if said[0] is None:
            raise RequestFailed(f"Peer {receiver} broke off its answer to {name}.")
        return said[0]


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
