"""One small project for several processes: written once, read by each, with as many statements for it as are wanted."""

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.statements import make
from p2pcap.codec import decode_plain, encode
from p2pcap.envelope import Envelope, open_envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.grants import grant_for
from p2pcap.project.opened import Project, open_project
from p2pcap.project.ticket import Ticket

FILE = "project.cbor"
MAX_FILE = 1_000_000


@dataclass(frozen=True)
class Shared:
    """The project, and a ticket that admits to it."""

    project: Project
    ticket: Ticket

    def admissions(self, count: int) -> list[Envelope]:
        """Valid statements, each by itself: grants for `count` new keys. No body hangs on them."""
        now, invitation, m = int(time.time()), self.ticket.invitation, self.project.m
        invite = invitation.invite(m, self.project.coordinators) if invitation is not None else None
        assert invitation is not None
        assert invite is not None
        wanted = (grant_for(Identity.generate(), m, f"{number}", now, invite) for number in range(count))
        return [seal(invitation.key, "grant", grant) for grant in wanted]


def write_project(folder: Path) -> None:
    """Make a project and leave it in `folder`."""
    made = make(1)
    chain = [made.project.root_envelope.data, made.project.manifest_envelope.data, made.project.plan_data]
    (folder / FILE).write_bytes(encode([*chain, str(made.ticket)]))


def read_project(folder: Path) -> Shared:
    """The project in `folder`."""
    root, manifest, plan, text = decode_plain((folder / FILE).read_bytes(), MAX_FILE)
    ticket = Ticket.parse(text)
    return Shared(open_project(open_envelope(root), open_envelope(manifest), plan, ticket.root), ticket)
