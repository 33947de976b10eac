"""What a worker needs from the node around it, and nothing else.

The node fills this in with the swarm, the store and the image cache; simulations fill it in with in-memory twins.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from p2pcap.envelope import Envelope
from p2pcap.ledger.body import Body
from p2pcap.ledger.records import Result, Row
from p2pcap.project.records import Item


class Station(Protocol):
    """The worker's surroundings."""

    @property
    def released(self) -> bool:
        """Whether captioning may start (the project's `wait_for_engines`)."""

    @property
    def workers(self) -> int:
        """How many ready engines share the project, as far as this node knows; at least 1."""

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The chunk's verified item list; waits until some peer hands it over."""

    async def images(self, hashes: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The verified bytes of these images, without those that nobody hands over after a fair wait."""

    async def publish_claim(self, claim: Envelope) -> None:
        """Tell the swarm what this node is working on."""

    async def publish_result(self, header: Envelope, result: Result, rows: Sequence[Row], body: Body) -> None:
        """Make a result durable, then count it, then announce it."""

    async def changed(self) -> None:
        """Wait until something may have changed that bears on the choice of work."""
