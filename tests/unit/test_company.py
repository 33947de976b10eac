"""Who shares a verifier's work: those who are ready and who do look."""

from dataclasses import dataclass
from typing import Any, cast

from p2pcap.identity import Identity
from p2pcap.ledger.state import Ledger
from p2pcap.node.auditing import UNTIL_TOLD, Company
from p2pcap.swarm.swarm import Swarm
from tests.audited import audited, finding, slice_of
from tests.makers import ADA
from tests.unit.test_trust import known, tell

VERA, VIC = (Identity.from_seed(letter * 32) for letter in (b"v", b"w"))
MADE = audited((1_024,), verifiers=(VERA.public, VIC.public))


@dataclass
class Peer:
    """A connected peer that says of itself that its engine is ready."""

    peer_id: str
    engine_ready: bool = True

    @property
    def status(self) -> Any:
        return self


@dataclass
class Peers:
    """Who is connected."""

    connected: list[Peer]

    def peers(self) -> list[Peer]:
        return self.connected


def company(ledger: Ledger) -> Company:
    """Vera's, with Vic and Ada."""
    return Company(VERA.public, ledger, cast(Swarm, Peers([Peer(VIC.peer_id), Peer(ADA.peer_id)])))


def test_a_verifier_who_never_looks_takes_no_work_off_another() -> None:
    adas = [slice_of(MADE, ADA, 0, number) for number in range(4)]
    ledger = known(*adas, project=MADE.project)
    assert (company(ledger).verifiers, company(ledger).engines) == (2, 3)
    tell(ledger, finding(VERA, adas[0], "ok", 2**UNTIL_TOLD - 1))
    assert company(ledger).verifiers == 2, "he may have come a moment ago"
    tell(ledger, finding(VERA, adas[1], "ok", 2**8 - 1))
    assert company(ledger).verifiers == 1
    tell(ledger, finding(VIC, adas[2], "ok", 0b11))
    assert company(ledger).verifiers == 2
