"""The ticket: one line of text that is all a volunteer needs.

It pins the project's root by hash, says where peers may be found, and may carry an invitation: the secret of a key that
the coordinator signed, with which the joiner signs its own grant, offline. It can travel over any channel; whoever
holds an invitation may join, so it is as public as the maintainer makes it. A ticket without one is for observers, and
for projects that admit in another way.

Always holds: text that parses was not mistyped (p2pcap.project.ticket_text), and `Ticket.parse(str(t)) == t`.
"""

import base64
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import encode
from p2pcap.errors import TicketError
from p2pcap.identity import Identity, verify
from p2pcap.project import ticket_addresses
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import Prefix
from p2pcap.project.ticket_text import SCHEME, damaged, from_text, to_text

__all__ = ["LATEST", "MAX_USES", "SCHEME", "SECRET", "SHORT", "Invitation", "Invite", "Signature", "Ticket", "invite"]

SHORT = 300
"""Characters that a ticket is kept to where it can be: what fits a chat line and a QR code of a terminal's width."""

SECRET = 16
"""Bytes of an invitation's secret: an Ed25519 key is no stronger than 128 bits."""

MAX_USES = 65_536
"""Authors that one invitation admits, also when it names no number: a bound on what a leaked ticket costs each node."""

LATEST = 2**32 - 1
"""The last second that an invitation can name: in the year 2106."""

MAX_NAME = 64
"""Characters of a project's name, as in its root."""

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Uses = Annotated[int, msgspec.Meta(ge=1, le=MAX_USES)]


class Invite(Record, frozen=True):
    """The coordinator's word that holders of `key`'s secret may join until `expires` (unix seconds), `uses` authors at
    most, or MAX_USES when it is left out; `signature` is over the rest."""

    key: Hash
    expires: Count
    signer: Hash
    signature: Signature
    uses: Uses | UnsetType = UNSET

    def holds(self, m: bytes, coordinators: Collection[bytes]) -> bool:
        """Whether one of these keys signed it, for the project with prefix `m`."""
        message = encode(_Invited(m, self.key, self.expires, self.uses))
        return self.signer in coordinators and verify(self.signer, "invite", message, self.signature)

    @property
    def most(self) -> int:
        """How many authors may join with it."""
        return MAX_USES if self.uses is UNSET else self.uses


class _Invited(Record, frozen=True):
    m: Prefix
    key: Hash
    expires: Count
    uses: Uses | UnsetType = UNSET


def invite(coordinator: Identity, m: bytes, key: bytes, expires: int, uses: int = 0) -> Invite:
    """An invitation for the ticket key `key`, valid until `expires` (unix seconds), for `uses` authors; 0: MAX_USES."""
    limit = uses or UNSET
    signature = coordinator.sign("invite", encode(_Invited(m, key, expires, limit)))
    return Invite(key, expires, coordinator.public, signature, limit)


@dataclass(frozen=True)
class Invitation:
    """What a ticket carries of an invite: the ticket key's secret and the coordinator's signature. Key and signer
    follow from them, so they are left out. `uses` is 0 when the invite names no number. Its repr hides the secret."""

    secret: bytes
    expires: int
    signature: bytes
    uses: int = 0

    def __repr__(self) -> str:
        return f"Invitation({self.key.public.hex()[:16]}, expires={self.expires}, uses={self.uses})"

    @classmethod
    def of(cls, secret: bytes, coordinator: Identity, m: bytes, expires: int, uses: int = 0) -> "Invitation":
        """A new one, signed by `coordinator` for the project with prefix `m`. One that is to hold longer than LATEST
        holds until then."""
        expires = min(expires, LATEST)
        signed = invite(coordinator, m, key_of(secret).public, expires, uses)
        return cls(secret, expires, signed.signature, uses)

    @cached_property
    def key(self) -> Identity:
        """The ticket key: it signs grants."""
        return key_of(self.secret)

    def invite(self, m: bytes, signers: Collection[bytes]) -> Invite | None:
        """The invite by that one of `signers` who signed it; None when none of them did."""
        made = (Invite(self.key.public, self.expires, key, self.signature, self.uses or UNSET) for key in signers)
        return next((one for one in made if one.holds(m, signers)), None)


def key_of(secret: bytes) -> Identity:
    """The ticket key of an invitation's secret."""
    return Identity.from_seed(hashlib.sha256(b"p2pcap-ticket-key/1\0" + secret).digest())


@dataclass(frozen=True)
class Ticket:
    """What the text says: the project's name (for people) and first root's hash, where peers are, and an invitation.

    Bytes: version 4 bits ‖ 0 ‖ 0 ‖ packed ‖ invited, the name's length and the name, root, secret, uses (as in LEB128),
    expires (4 bytes), signature, addresses. A name of letters, digits, "-" and " " is packed, six bits each.
    """

    name: str
    root: bytes
    invitation: Invitation | None = None
    addresses: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The ticket as text."""
        packed = _packed(self.name)
        name = self.name.encode() if packed is None else packed
        count = len(self.name if packed is not None else name)
        head = bytes((_VERSION << 4 | (packed is not None) << 1 | (self.invitation is not None), count))
        invited = _write(self.invitation) if self.invitation is not None else b""
        return to_text(head + name + self.root + invited + ticket_addresses.write(self.addresses))

    @classmethod
    def parse(cls, text: str) -> "Ticket":
        """The ticket in `text`, white space around and within forgiven. Raises TicketError."""
        data = from_text(text)
        if not data or data[0] & 0xFC != _VERSION << 4:
            raise _newer()
        cut = _Cut(data[1:])
        name = cut.name(packed=bool(data[0] & 2))
        root = cut.take(32)
        invitation = cut.invitation() if data[0] & 1 else None
        ticket = cls(name, root, invitation, ticket_addresses.read(cut.rest))
        if not 0 < len(name) <= MAX_NAME or from_text(str(ticket)) != data:
            raise damaged()
        return ticket

    def naming(self, addresses: tuple[str, ...], limit: int = SHORT) -> "Ticket":
        """This ticket with the first ones of `addresses`, as many as fit into `limit` characters, but one at least."""
        addresses = addresses[: ticket_addresses.MAX_ADDRESSES]
        while len(addresses) > 1 and len(str(replace(self, addresses=addresses))) > limit:
            addresses = addresses[:-1]
        return replace(self, addresses=addresses)


_VERSION = 1
_UNDERSCORE = str.maketrans(" _", "_ ")


def _packed(name: str) -> bytes | None:
    """The name at six bits a character, as base64url reads it; None when it has other characters."""
    try:
        data = base64.urlsafe_b64decode(name.translate(_UNDERSCORE) + "A" * (-len(name) % 4))
    except ValueError:
        return None
    data = data[: -(-len(name) * 6 // 8)]
    return data if _unpacked(data, len(name)) == name else None


def _unpacked(data: bytes, count: int) -> str:
    return base64.urlsafe_b64encode(data + b"\0\0").decode()[:count].translate(_UNDERSCORE)


def _write(invitation: Invitation) -> bytes:
    uses, rest = bytearray(), invitation.uses
    while rest > 0x7F:
        uses.append(rest & 0x7F | 0x80)
        rest >>= 7
    uses.append(rest)
    return invitation.secret + bytes(uses) + invitation.expires.to_bytes(4, "big") + invitation.signature


class _Cut:
    """Takes a ticket's bytes apart, front to back."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        if len(taken) < count:
            raise damaged()
        return taken

    def name(self, packed: bool) -> str:
        count = self.take(1)[0]
        if packed:
            return _unpacked(self.take(-(-count * 6 // 8)), count)
        try:
            return self.take(count).decode()
        except UnicodeDecodeError as error:
            raise damaged() from error

    def invitation(self) -> Invitation:
        secret, uses = self.take(SECRET), self._uses()
        return Invitation(secret, int.from_bytes(self.take(4), "big"), self.take(64), uses)

    def _uses(self) -> int:
        uses = 0
        for place in range(3):
            byte = self.take(1)[0]
            uses |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                break
        if uses > MAX_USES:
            raise damaged()
        return uses


def _newer() -> TicketError:
    return TicketError("The ticket is of a kind this version does not know. Update p2pcap.")
