"""Grants: how an author comes in. By a ticket, by a coordinator's own word, or, where anybody may, by a puzzle.

With a ticket, its key signs the grant, and inside it the author's key signs that it wants to be admitted, under this
name: so whoever holds a ticket can admit itself, but can neither admit nor rename anybody else. A coordinator admits
whom it likes. Who solved the puzzle signs for itself.

Always holds: a grant says one of the three, by which fields it has.
"""

from dataclasses import dataclass

from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import TicketError
from p2pcap.identity import Identity, verify
from p2pcap.ledger.admission import Admitted, Way
from p2pcap.ledger.checks import Ruled
from p2pcap.ledger.puzzle import solve
from p2pcap.ledger.records import Grant, PublicName
from p2pcap.project.opened import Project
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import Prefix
from p2pcap.project.ticket import Invite, Ticket


class _Wish(Record, frozen=True):
    m: Prefix
    ticket: Hash
    name: PublicName
    time: Count


def grant_for(author: Identity, m: bytes, name: str, time: int, invite: Invite) -> Grant:
    """The grant that admits `author` to the project with prefix `m`; the ticket's key still has to sign it."""
    wish = author.sign("join", encode(_Wish(m, invite.key, name, time)))
    return Grant(m, author.public, name, time, invite, wish)


def grant_by(coordinator: Identity, m: bytes, key: bytes, name: str, time: int) -> Envelope:
    """The grant by which a coordinator admits the author `key` itself. It holds in every project."""
    return seal(coordinator, "grant", Grant(m, key, name, time))


def grant_self(author: Identity, m: bytes, name: str, time: int) -> Envelope:
    """The grant by which `author` admits itself to an open project. Takes a second of computing."""
    return seal(author, "grant", Grant(m, author.public, name, time, puzzle=solve(m, author.public)))


def is_wished(grant: Grant) -> bool:
    """Whether the admitted key itself signed project, ticket, name and time."""
    if grant.invite is UNSET or grant.wish is UNSET:
        return False
    return verify(grant.key, "join", encode(_Wish(grant.m, grant.invite.key, grant.name, grant.time)), grant.wish)


def admitted(id_: bytes, signer: bytes, grant: Grant) -> Admitted:
    """A grant with the statement id `id_`, signed by `signer`, as admission sees it."""
    invite = grant.invite
    if invite is not UNSET:
        way = Way("invite", invite.signer, invite.key, invite.most, invite.expires)
    else:
        way = Way("allowlist", signer) if grant.puzzle is UNSET else Way("open")
    return Admitted(id_, grant.time, grant.key, way)


@dataclass(frozen=True)
class Admittance:
    """What grants change: those that are `kept`, the ids of stored ones that are `gone`, and for results of authors who
    are in or out now, or on probation no more, by id, what is made of them."""

    kept: list[Envelope]
    gone: list[bytes]
    standing: dict[bytes, Ruled]


OPEN_TO = {
    "allowlist": ("allowlist",),
    "invite": ("allowlist", "invite"),
    "open": ("allowlist", "invite", "open"),
}
"""In which ways a project admits."""


def misshapen(grant: Grant, signer: bytes) -> str:
    """What is wrong with a grant by `signer` that shows without any signature; empty when nothing is."""
    if grant.invite is not UNSET:
        return _misinvited(grant, grant.invite, signer)
    if grant.wish is not UNSET:
        return "a wish without an invitation"
    if grant.puzzle is not UNSET and signer != grant.key:
        return "another's puzzle"
    return ""


def _misinvited(grant: Grant, invite: Invite, signer: bytes) -> str:
    if grant.puzzle is not UNSET or grant.wish is UNSET:
        return "an invitation without a wish, or with a puzzle"
    if invite.key != signer:
        return "not signed by the invited key"
    return "the invitation had expired" if grant.time > invite.expires else ""


def own_grant(author: Identity, ticket: Ticket, project: Project, name: str, now: int) -> Envelope | None:
    """The grant with which `author` joins at `now` (unix seconds), by its ticket or, without an invitation, as the
    project admits. None when only the maintainer can admit it. For an open project that takes a second of computing.
    Raises TicketError when the ticket admits nobody."""
    admission = project.plan.policy.admits
    if admission == "allowlist":
        return None
    if ticket.invitation is None and admission == "open":
        return grant_self(author, project.m, name, now)
    if ticket.invitation is None:
        raise TicketError("The ticket carries no invitation. Ask the maintainer for one, or watch with --observe.")
    if now > ticket.invitation.expires:
        raise TicketError("The ticket has expired. Ask the maintainer for a new one.")
    invite = ticket.invitation.invite(project.m, project.coordinators)
    if invite is None:
        raise TicketError(
            "The ticket's invitation is not signed by the project's coordinator. Ask the maintainer for a new one."
        )
    return seal(ticket.invitation.key, "grant", grant_for(author, project.m, name, now, invite))
