"""What the parts of a node that deal with the ledger need of the database and of the network, and nothing else.

A running node fills these in with `p2pcap.store.store.Store` and `p2pcap.swarm.swarm.Swarm`, the simulator with twins
in memory.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from p2pcap.store.reads import Bodiless
from p2pcap.store.writes import Write
from p2pcap.swarm.links import PeerInfo
from p2pcap.swarm.service import Kind

Clock = Callable[[], float]
"""Unix seconds."""


class LedgerStore(Protocol):
    """The database."""

    async def commit(self, *writes: Write) -> None:
        """Make `writes` durable, in one transaction. Raises StoreError when that failed."""

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        """The envelopes with these ids, without those not held."""

    async def body(self, root: bytes) -> bytes | None:
        """A held body with the Merkle root `root`."""

    async def blob(self, hash: bytes) -> bytes | None:
        """The blob with this SHA-256."""

    async def has_items(self, chunk: int) -> bool:
        """Whether the chunk's item list is stored."""

    async def bodies_missing(self, after: int, limit: int) -> list[Bodiless]:
        """At most `limit` results whose body was never here, by number, of those numbered above `after` (-1: all)."""

    async def answers(self, tid: bytes, chunk: int) -> dict[int, list[str]]:
        """The canonical answers of a task to the images of a chunk, by item, as far as they are here."""

    async def roots_of_dropped(self, tid: bytes, chunk: int, wanted: Sequence[int]) -> dict[int, bytes]:
        """The roots of the bodies, checked here and not kept, that hold the canonical answers of a task to those of the
        images `wanted` of a chunk, by item."""

    async def dropped(self) -> set[bytes]:
        """The ids of the results whose bodies were checked and are not kept."""


class Network(Protocol):
    """The swarm."""

    def peers(self) -> tuple[PeerInfo, ...]:
        """The connected peers."""

    def fetch(
        self,
        kind: Kind,
        wanted: Sequence[bytes],
        peers: Sequence[str] | None,
        verify: Callable[[bytes, bytes], bool],
        cap: int,
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Items by hash, each as soon as it is there and `verify` holds."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Announce `data`. Raises SwarmError when it is too large."""

    async def statements(self, peer: str, ids: Sequence[bytes]) -> list[bytes]:
        """Those of these envelopes, at most 256, that `peer` holds. Raises SwarmError."""

    async def chain(self, peer: str, after: int) -> list[bytes]:
        """The checkpoints that `peer` holds after this number, a page at a time, ascending. Raises SwarmError."""
