"""Bans and voids that the coordinator's node signs by itself (p2pcap.ledger.due).

Always holds: what is signed is durable before anybody is told; after a crash nothing is signed twice, because what is
due follows from the ledger.
"""

from collections.abc import Callable

import structlog
import trio

from p2pcap.envelope import seal
from p2pcap.errors import SwarmError
from p2pcap.identity import Identity, peer_id_of
from p2pcap.ledger.due import due
from p2pcap.ledger.rulings import Ban, Void
from p2pcap.ledger.state import Ledger
from p2pcap.node.intake import Intake
from p2pcap.node.seams import Clock, Network
from p2pcap.swarm.messages import CONTROL

PAUSE = 1.0
"""Seconds, at least, between two looks: verifiers' findings come several at a time."""

log = structlog.get_logger()


class Enforcing:
    """Rules as `signer`, as long as that is a coordinator's key. `say` gets a line for people."""

    def __init__(
        self,
        signer: Identity,
        ledger: Ledger,
        network: Network,
        intake: Intake,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._signer = signer
        self._ledger = ledger
        self._network = network
        self._intake = intake
        self._clock = clock
        self._say = say

    async def run(self) -> None:
        """Rule after each finding that makes it due, as long as the node runs."""
        while True:
            seen = self._intake.found.count
            await self.rule()
            await trio.sleep(PAUSE)
            if self._intake.found.count == seen:
                await self._intake.found.wait()

    async def rule(self) -> None:
        """Sign what is due now, make it durable, and tell everybody."""
        if self._signer.public not in self._ledger.project.coordinators:
            return
        for ruling in due(self._ledger, int(self._clock())):
            await self._sign(ruling)

    async def _sign(self, ruling: Ban | Void) -> None:
        kind = "ban" if isinstance(ruling, Ban) else "void"
        envelope = seal(self._signer, kind, ruling)
        await self._intake.settle(envelope, ruling)
        log.info("enforced", kind=kind, statement=envelope.id.hex(), reason=ruling.reason)
        if isinstance(ruling, Ban):
            who = self._ledger.name_of(ruling.author) or peer_id_of(ruling.author)
            self._say(f"banned {who} by what verifiers found: {ruling.reason}")
        try:
            await self._network.publish(CONTROL, envelope.data)
        except SwarmError as error:
            log.warning("not gossiped", topic=CONTROL, reason=str(error))  # sync brings it to everybody
