"""What a node answers with: the swarm's view of everything above it.

The swarm moves bytes and keeps connections; what the bytes mean is decided behind this protocol class. The node fills
it in, and so does the in-memory twin of the tests.

Always holds: the swarm calls these from one trio thread, hands over nothing larger than the limits in
`p2pcap.swarm.messages`, and never calls `receive` with more than one page at a time for one peer.
"""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from p2pcap.swarm.messages import Status

Kind = Literal["blob", "body", "image"]
"""What can be fetched by hash. Each is a request protocol of its own, so their limits can differ."""

KINDS: tuple[Kind, ...] = ("blob", "body", "image")


class Judgement(enum.Enum):
    """What becomes of a gossip message (docs/protocol.md, Validity and gossip)."""

    ACCEPT = enum.auto()
    """Good and new: taken in, and relayed to others."""
    IGNORE = enum.auto()
    """Not relayed, and nobody's fault: seen before, too early, author not known yet."""
    REJECT = enum.auto()
    """Wrong in a way its relayer could have seen; costs the relayer standing."""


class Step(Protocol):
    """What one answer taught the side that began to reconcile."""

    @property
    def next(self) -> bytes | None:
        """The frame to send next; None at the end."""

    @property
    def have(self) -> Sequence[bytes]:
        """Ids of statements that are held here and not there."""

    @property
    def need(self) -> Sequence[bytes]:
        """Ids of statements that are held there and not here."""


class Reconciliation(Protocol):
    """One conversation in which we find out how a peer's set of statements differs from ours.

    It ends by itself after a bounded number of answers. It may be left at any time: the next one finds the rest.
    """

    def first(self) -> bytes:
        """The frame to begin with."""

    def take(self, answer: bytes) -> Step:
        """Learn from the peer's answer. Raises CodecError when it is malformed."""


class Service(Protocol):
    """Answers for one project. No method but `reconcile` may raise for what a stranger sent."""

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        """Take in one gossip message that peer `sender` relayed under "claims" or "results".

        Called once for each message, in the event loop: it must be quick and leave slow work to a queue of its own.
        """
        ...

    def status(self) -> Status:
        """This node's status now, with `addresses` and `peers` left empty."""
        ...

    def claims(self) -> list[bytes]:
        """The envelopes of live claims, at most CLAIMS_PAGE."""
        ...

    def reconcile(self, frame: bytes) -> bytes:
        """The answer, of at most RECONCILE_FRAME bytes, to a peer's frame of reconciliation.

        Called in the event loop: it must be quick whatever the frame says. Raises CodecError for a malformed one.
        """
        ...

    async def reconciliation(self, peer: str) -> Reconciliation | None:
        """A conversation to begin with `peer`, whose set of statements is not equal to ours; None: not now.

        The node may first get from `peer` what is better had in bulk. Raises SwarmError when that failed.
        """
        ...

    async def chain(self, after: int) -> list[bytes]:
        """The first checkpoints with numbers above `after`, ascending, at most STATEMENTS_PAGE."""
        ...

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        """The envelopes with these ids, without those not held."""
        ...

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        """The bytes with this hash, or a file that holds exactly them, or None when not held."""
        ...

    async def missing(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those of a peer's statement ids that are not held here and are wanted."""
        ...

    async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
        """Take in statements or live claims that peer `sender` handed over, asked or of its own accord.

        Returns when those that are valid are stored, and how many would be REJECTed as gossip.
        """
        ...

    def on_connect(self, peer: str) -> None:
        """A peer is connected, of whatever project; its status follows when it is of this one."""
        ...

    def on_status(self, peer: str, status: Status) -> None:
        """A connected peer of this project told its status."""
        ...

    def on_disconnect(self, peer: str) -> None:
        """The last connection with the peer is gone."""
        ...
