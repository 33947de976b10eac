"""Writes tickets.json: tickets as text and what they say.

    python -m tests.vectors.tickets

Keys, secrets and times are fixed, and Ed25519 is deterministic, so the file is always the same.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from p2pcap.project.ticket import MAX_USES, Invitation, Ticket
from tests.makers import ADA, BOB, COORDINATOR, FOREVER, TICKET_SECRET

FILE = Path(__file__).parent / "tickets.json"
M, ROOT = b"12345678", bytes(range(32))


@dataclass(frozen=True)
class Case:
    """A ticket and its text."""

    name: str
    ticket: Ticket
    text: str


def _tickets() -> dict[str, Ticket]:
    invitation = Invitation.of(TICKET_SECRET, COORDINATOR, M, FOREVER)
    limited = Invitation.of(TICKET_SECRET, COORDINATOR, M, FOREVER, 300)
    most = Invitation.of(TICKET_SECRET, COORDINATOR, M, FOREVER, MAX_USES)
    ada, bob = ADA.peer_id, BOB.peer_id
    known = (
        f"/ip4/192.0.2.7/tcp/4001/p2p/{ada}",
        f"/ip6/2001:db8::7/tcp/65535/p2p/{ada}",
        f"/dns4/cats.example.org/tcp/4001/p2p/{ada}",
        f"/ip4/198.51.100.2/tcp/1/p2p/{bob}/p2p-circuit/p2p/{ada}",
        f"/dns/relay.example.org/tcp/4001/p2p/{bob}/p2p-circuit/p2p/{ada}",
        "/dnsaddr/example.org",
        f"/ip4/192.0.2.7/udp/4001/quic-v1/p2p/{ada}",
    )
    return {
        "plain": Ticket("Shapes", ROOT),
        "an invitation": Ticket("Shapes", ROOT, invitation),
        "for 300 authors": Ticket("Cats of 1984-85", ROOT, limited, known[:2]),
        "for the most authors": Ticket("snake_case", ROOT, most, known[:1]),
        "a name in UTF-8": Ticket("Кошки 🐈", ROOT, invitation, known[:1]),
        "addresses of every kind": Ticket("Shapes", ROOT, invitation, known),
    }


def written() -> str:
    """The file's content."""
    cases = []
    for name, ticket in _tickets().items():
        said = ticket.invitation
        invitation = said and {
            "secret": said.secret.hex(),
            "key": said.key.public.hex(),
            "expires": said.expires,
            "uses": said.uses,
            "signature": said.signature.hex(),
        }
        told = {"name": ticket.name, "root": ticket.root.hex(), "invitation": invitation}
        cases.append({"case": name, "text": str(ticket), **told, "addresses": ticket.addresses})
    return json.dumps(cases, indent=1, ensure_ascii=True) + "\n"


def _read() -> list[Case]:
    made = _tickets()
    stored = json.loads(FILE.read_text(encoding="ascii")) if FILE.exists() else []
    return [Case(each["case"], made[each["case"]], each["text"]) for each in stored]


CASES = _read()

if __name__ == "__main__":
    FILE.write_text(written(), encoding="ascii")
