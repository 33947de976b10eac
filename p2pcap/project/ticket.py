"""The ticket: one line of text that is all a volunteer needs.

It pins the project's root by hash, says where peers may be found, and carries an invitation: a key signed by the
coordinator, with which the joiner signs its own grant, offline. It can travel over any channel; whoever holds it may
join, so it is as public as the maintainer makes it.

Always holds: text that parses was not mistyped (four bytes of checksum), and `Ticket.parse(str(t)) == t`.
"""

import base64
import hashlib
from typing import Annotated

import msgspec

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, TicketError
from p2pcap.identity import Identity, verify
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import Prefix

SCHEME = "p2pcap:"
MAX_TEXT = 4_096
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Address = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Invite(Record, frozen=True):
    """The coordinator's word that holders of `key`'s secret may join until `expires`; `signature` is over the rest."""

    key: Hash
    expires: Count
    signer: Hash
    signature: Signature

    def holds(self, m: bytes, coordinators: frozenset[bytes]) -> bool:
        """Whether a coordinator of the project with prefix `m` signed it."""
        message = encode(_Invited(m, self.key, self.expires))
        return self.signer in coordinators and verify(self.signer, "invite", message, self.signature)


class _Invited(Record, frozen=True):
    m: Prefix
    key: Hash
    expires: Count


def invite(coordinator: Identity, m: bytes, key: bytes, expires: int) -> Invite:
    """An invitation for the ticket key `key`, valid until `expires` (unix seconds)."""
    signature = coordinator.sign("invite", encode(_Invited(m, key, expires)))
    return Invite(key, expires, coordinator.public, signature)


class Ticket(Record, frozen=True):
    """What the text says: project name (for people), root hash, ticket key's seed, invitation, addresses."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    root: Hash
    seed: Hash
    invite: Invite
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=8)] = ()

    def __str__(self) -> str:
        """The ticket as text: "p2pcap:" and lower-case base32."""
        data = encode(self)
        return SCHEME + base64.b32encode(data + _checksum(data)).decode().rstrip("=").lower()

    @classmethod
    def parse(cls, text: str) -> "Ticket":
        """The ticket in `text`, white space around and within forgiven. Raises TicketError."""
        joined = "".join(text.split()) if len(text) <= 2 * MAX_TEXT else text
        if not joined.lower().startswith(SCHEME) or len(joined) > MAX_TEXT:
            raise TicketError(
                f'This is no ticket: one starts with "{SCHEME}". Copy the whole line that the maintainer gave you.'
            )
        data = _unbase32(joined[len(SCHEME) :])
        if len(data) < 5 or _checksum(data[:-4]) != data[-4:]:
            raise TicketError("The ticket is damaged or cut short. Copy the whole line that the maintainer gave you.")
        try:
            return decode(data[:-4], cls, MAX_TEXT)
        except CodecError as error:
            raise TicketError("The ticket is of a kind this version does not know. Update p2pcap.") from error


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(b"p2pcap-ticket/1\0" + data).digest()[:4]


def _unbase32(text: str) -> bytes:
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return b""
