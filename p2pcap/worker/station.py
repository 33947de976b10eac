"""What a worker needs from the node around it, and nothing else.

The node fills this in with the swarm, the store and the image cache; simulations fill it in with in-memory twins.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from p2pcap.envelope import Envelope
from p2pcap.errors import ImageError
from p2pcap.ledger.body import Body
from p2pcap.ledger.records import Result, Row
from p2pcap.project.items import Item
from p2pcap.worker.slices import Image


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

    async def images(
        self, chunk: int, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        """The images at the places `wanted` of the chunk, verified, or why one cannot be had.

        `ahead` are places of the chunk that will be asked for after these. A place that is left out is to be asked for
        again some time later, without a try being counted: whoever could have it is not there.
        """

    async def given(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Mapping[str, str]]:
        """For each of the places `wanted` of the chunk, the answers of other tasks that this one uses, by their names
        ("stage.prompt"). A place that is left out is to be asked for again some time later."""

    async def load(self, hash_: bytes) -> bytes | None:
        """The bytes of an image that waits on disk; None when they are not there any more, nor to be had at once."""

    async def publish_claim(self, claim: Envelope) -> None:
        """Tell the swarm what this node is working on."""

    async def publish_result(
        self, header: Envelope, result: Result, rows: Sequence[Row], body: Body, evidence: bytes | None
    ) -> None:
        """Make a result durable, with its evidence where it names one, then count it, then announce it."""

    async def changed(self) -> None:
        """Wait until something may have changed that bears on the choice of work."""
