"""Making checkpoints: what the holder of the checkpoint key does beside everything else a node does.

Always holds: a checkpoint is made only over statements and bodies that are on this node's disk, after every checkpoint
that peers can hand over; it is committed before it is announced.
"""

import secrets
from collections.abc import Callable

import structlog
import trio

from p2pcap.envelope import seal
from p2pcap.errors import ConfigError, SwarmError
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import SETTLE, Stamp
from p2pcap.ledger.sealing import Key, is_due, make, sealable
from p2pcap.ledger.state import Ledger
from p2pcap.node.checkpoints import Checkpoints
from p2pcap.node.intake import Intake
from p2pcap.node.seams import Clock, LedgerStore, Network
from p2pcap.store.writes import PutBlob

LOOK_EVERY = 10.0
"""Seconds between two looks whether a checkpoint is due."""

ALONE = 600.0
"""Seconds after which a node that no peer has answered takes its own database for the newest."""

ASK_WITHIN = 20.0
"""Seconds in which a peer has to hand over the checkpoints it claims to hold."""

ASK_AT_ONCE = 8
"""Peers that are asked in one look."""

STAMP_EVERY = 6 * 3_600
STAMP_FOR = 72 * 3_600
"""Seconds between two stamps without a new checkpoint, and how long one holds."""

log = structlog.get_logger()


class Sealing:
    """Makes checkpoints and stamps, signed by `signer`. `beacon` gives 32 fresh random bytes."""

    def __init__(
        self,
        signer: Identity,
        ledger: Ledger,
        store: LedgerStore,
        network: Network,
        intake: Intake,
        checkpoints: Checkpoints,
        clock: Clock,
        beacon: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._signer = signer
        self._ledger = ledger
        self._store = store
        self._network = network
        self._intake = intake
        self._clock = clock
        self._beacon = beacon
        self._checkpoints = checkpoints
        self._started = clock()
        self._asked: dict[str, int] = {}
        self._silent: set[str] = set()
        self._stamped = 0.0
        self._turn = trio.Lock()

    async def run(self) -> None:
        """Seal what is due, as long as the node runs."""
        while True:
            await self._look()
            await trio.sleep(LOOK_EVERY)

    async def _look(self) -> None:
        if not await self._is_up_to_date():
            return
        if self._signer.public in self._ledger.project.checkpointers:
            async with self._turn:
                await self._seal_due()
        if self._signer.public in self._ledger.project.coordinators:
            await self._stamp()

    async def _is_up_to_date(self) -> bool:
        """Whether every known checkpoint is taken here, and peers have been asked for later ones.

        What a peer says of itself is no proof: it counts when it hands the checkpoints over. A node that has just been
        started may have an old database, so it seals nothing before a peer has answered, or ALONE seconds without one;
        nor before it has the checkpoints that the root says there are.
        """
        for peer in [peer for peer in self._network.peers() if peer.peer_id not in self._silent][:ASK_AT_ONCE]:
            claimed = peer.status.checkpoint if peer.status is not None else 0
            if peer.peer_id not in self._asked or claimed > max(self._asked[peer.peer_id], self._ledger.seals.head):
                await self._ask(peer.peer_id, claimed)
        alone = not self._asked and self._clock() < self._started + ALONE
        sealed = max((key.checkpoint for key in self._ledger.project.former.values()), default=0)
        head = self._ledger.seals.head
        return not alone and sealed <= head == max(self._ledger.checkpoints, default=0)

    async def _ask(self, peer: str, claimed: int) -> None:
        try:
            with trio.fail_after(ASK_WITHIN):
                await self._checkpoints.get_chain(peer)
        except (SwarmError, trio.TooSlowError) as error:
            log.info("no chain", peer=peer, reason=str(error))
            self._silent.add(peer)
            return
        self._asked[peer] = claimed

    async def seal_all(self) -> int:
        """Seal at once what is here, however new; returns the number of the newest checkpoint. Raises ConfigError while
        that would not be the next one of the chain."""
        if self._signer.public not in self._ledger.project.checkpointers or not await self._is_up_to_date():
            raise ConfigError("The coordinator has not caught up with the swarm yet. Try again in a minute.")
        async with self._turn:
            if keys := sealable(self._ledger, self._clock() + SETTLE):
                await self._seal(keys)
                await self._checkpoints.advance()
        return self._ledger.seals.head

    async def _seal_due(self) -> None:
        now = self._clock()
        keys = sealable(self._ledger, now)
        if keys and is_due(self._ledger, keys, now):
            await self._seal(keys)

    async def _seal(self, keys: list[Key]) -> None:
        async with self._intake.turn:  # a grant that is displaced meanwhile would be sealed, and be with nobody
            made = make(
                self._ledger, [key for key in keys if self._ledger.holds(key[1])], self._beacon(), self._clock()
            )
            envelope = seal(self._signer, "checkpoint", made.record)
            await self._store.commit(*(PutBlob(hash_, data) for hash_, data in made.blobs.items()))
            await self._intake.settle_in_turn(envelope, made.record)
        log.info("sealed", number=made.record.number, statements=len(made.ids), captions=made.record.captions)
        await self._publish(envelope.data)
        self._stamped = 0.0

    async def _stamp(self) -> None:
        now = self._clock()
        if now < self._stamped + STAMP_EVERY:
            return
        project, seals = self._ledger.project, self._ledger.seals
        stamp = Stamp(
            m=project.m,
            version=int(now),
            root=project.root.version,
            manifest=project.manifest.version,
            manifest_hash=project.manifest_envelope.payload_hash,
            checkpoint=seals.head,
            checkpoint_hash=seals.head_hash,
            time=int(now),
            expires=int(now) + STAMP_FOR,
        )
        envelope = seal(self._signer, "stamp", stamp)
        await self._intake.settle(envelope, stamp)
        await self._publish(envelope.data)
        self._stamped = now

    async def _publish(self, data: bytes) -> None:
        try:
            await self._network.publish("control", data)
        except SwarmError as error:
            log.warning("not gossiped", topic="control", reason=str(error))
