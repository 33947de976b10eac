"""A guest of the swarm: it gets a project, its model and some of its images, takes part in nothing, and leaves.

It has no grant, holds no table and serves nobody. Strangers are trusted with nothing here either: the ticket pins the
project's hash, and whatever is fetched is checked against the hash that was asked for.

Always holds: nothing is published, and nobody who waits for a guest gets more than an empty answer.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pcap import __version__
from p2pcap.identity import Identity
from p2pcap.ledger.index import Index
from p2pcap.ledger.negentropy import respond
from p2pcap.node.change import Change
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import Ticket
from p2pcap.store.store import Store
from p2pcap.swarm.discovery.discovery import can_dial
from p2pcap.swarm.messages import RECONCILE_FRAME, Status
from p2pcap.swarm.service import Judgement, Kind, Reconciliation
from p2pcap.swarm.swarm import Swarm, open_swarm

LISTEN = ("/ip4/127.0.0.1/tcp/0",)
"""Nobody has a reason to dial a guest."""


class GuestService:
    """Implements `p2pcap.swarm.service.Service` for one who only asks."""

    def __init__(self, ticket: Ticket) -> None:
        self.peers_changed = Change()
        self._root = ticket.root

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        """Nothing is taken in, and so nothing relayed."""
        return Judgement.IGNORE

    def status(self) -> Status:
        """Of a node that has nothing yet."""
        return Status(
            project=self._root[:8],
            root=self._root,
            manifest_version=0,
            manifest=bytes(32),
            count=0,
            digest=bytes(32),
            role="observer",
            agent=f"p2pcap/{__version__}",
        )

    def claims(self) -> list[bytes]:
        """None."""
        return []

    def reconcile(self, frame: bytes) -> bytes:
        """Of an empty table."""
        return respond(Index(), frame, RECONCILE_FRAME)

    async def reconciliation(self, peer: str) -> Reconciliation | None:
        """The table is of no interest."""
        return None

    async def chain(self, after: int) -> list[bytes]:
        """None."""
        return []

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        """None."""
        return []

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        """Nothing is served."""
        return None

    async def missing(self, ids: Sequence[bytes]) -> list[bytes]:
        """None is wanted."""
        return []

    async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
        """Left aside; that is no fault of the sender's."""
        return 0

    def on_connect(self, peer: str) -> None:
        """Its status follows."""

    def on_status(self, peer: str, status: Status) -> None:
        """Something may be had from it."""
        self.peers_changed.tell()

    def on_disconnect(self, peer: str) -> None:
        """Something may not be had any more."""
        self.peers_changed.tell()


@dataclass(frozen=True)
class Visit:
    """A guest that is connected, or tries to be."""

    swarm: Swarm
    store: Store
    peers_changed: Change


@asynccontextmanager
async def visit(
    ticket: Ticket, paths: NodePaths, peers: Sequence[str], service: GuestService | None = None
) -> AsyncIterator[Visit]:
    """A guest of the ticket's project that keeps what it gets in the folder `paths`, as a node that joins later would.
    `peers` are addresses beside the ticket's; `service` is what it answers, where it has something to say.

    Raises StoreError, SwarmError, KeyFileError.
    """
    store = Store.open(paths.database)
    try:
        identity, service = Identity.load_or_create(paths.key), service or GuestService(ticket)
        known = (*peers, *(address for address in ticket.addresses if can_dial(address)))
        async with open_swarm(identity, ticket.root[:8], LISTEN, service, known) as swarm:
            yield Visit(swarm, store, service.peers_changed)
    finally:
        await store.close()
