"""Admission: a grant that the author asked for and a ticket allows.

The ticket's key signs the grant, and inside it the author's key signs that it wants to be admitted, under this name.
So whoever holds a ticket can admit itself, but can neither admit nor rename anybody else.
"""

from p2pcap.codec import encode
from p2pcap.identity import Identity, verify
from p2pcap.ledger.records import Grant, PublicName
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import Prefix
from p2pcap.project.ticket import Invite


class _Wish(Record, frozen=True):
    m: Prefix
    ticket: Hash
    name: PublicName
    time: Count


def grant_for(author: Identity, m: bytes, name: str, time: int, invite: Invite) -> Grant:
    """The grant that admits `author` to the project with prefix `m`; the ticket's key still has to sign it."""
    wish = author.sign("join", encode(_Wish(m, invite.key, name, time)))
    return Grant(m, author.public, name, time, invite, wish)


def is_wished(grant: Grant) -> bool:
    """Whether the admitted key itself signed project, ticket, name and time."""
    return verify(grant.key, "join", encode(_Wish(grant.m, grant.invite.key, grant.name, grant.time)), grant.wish)
