"""What verifiers and coordinators say about work: verdicts, bans, voids, redactions; and what that adds up to.

A ruling changes nothing that was said before it; it decides what counts. `Rulings` is a pure function of the set of
bans and voids: the order in which they came plays no part. What verdicts add up to is in p2pcap.ledger.verdicts.

Always holds: nothing here looks at a clock. "Earlier" is a checkpoint number.
"""

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from p2pcap.ledger.records import ChunkNumber, Mask
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import MAX_CHUNK, SLICE, Prefix

Reason = Annotated[str, msgspec.Meta(max_length=128)]
Evidence = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=4)]
"""Ids of statements that show why."""

CheckpointNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]

MAX_VOIDED = 8
"""Results in one void; with the longest reason it still fits a statement."""


class Finding(Record, frozen=True):
    """A word on items of one result; the statement's type is `verdict`. A verifier's is a ruling. That of another
    author who is admitted is an accusation: it makes verifiers look (p2pcap.ledger.accusations).

    `verdict` is "ok", "bad", "differs" (the image was another) or "unsure". `method` names how it was found and
    `scores` holds that method's numbers.
    """

    m: Prefix
    batch: Hash
    items: Mask
    verdict: Annotated[str, msgspec.Meta(pattern=r"^(ok|bad|differs|unsure)\Z")]
    method: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
    scores: Annotated[bytes, msgspec.Meta(max_length=256)]
    time: Count


class Ban(Record, frozen=True):
    """The coordinator's word on an author. Of several the one with the highest `version` counts, then the lowest id.

    `scope` says which of the author's results count no more: "unsealed" (those no checkpoint up to number `after`
    seals), "all", or "none", which lifts an earlier ban.
    """

    m: Prefix
    author: Hash
    version: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    after: CheckpointNumber
    scope: Annotated[str, msgspec.Meta(pattern=r"^(none|unsealed|all)\Z")]
    reason: Reason
    evidence: Evidence
    time: Count


class Void(Record, frozen=True):
    """The coordinator's word that these results count no more. Their items are open again."""

    m: Prefix
    batches: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=MAX_VOIDED)]
    reason: Reason
    evidence: Evidence
    time: Count


class Redact(Record, frozen=True):
    """The coordinator's word that these items are never to be shown: every body that covers one of them is dropped.

    Span and mask are as in a result. The named items stay closed; others that lost their row with them are open again.
    """

    m: Prefix
    chunk: ChunkNumber
    offset: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNK)]
    n: Annotated[int, msgspec.Meta(ge=1, le=SLICE)]
    mask: Mask
    reason: Reason
    time: Count

    @property
    def items(self) -> int:
        """The items named, as bits of the chunk."""
        return int.from_bytes(self.mask, "little") << self.offset


Ruling = Finding | Ban | Void | Redact


@dataclass
class Rulings:
    """All bans and voids so far, and the ids of redactions."""

    voided: set[bytes] = field(default_factory=set)
    _ids: set[bytes] = field(default_factory=set)
    _bans: dict[bytes, tuple[int, bytes, Ban]] = field(default_factory=dict)

    def add(self, id_: bytes, ruling: Ban | Void | Redact) -> None:
        """Take in a valid ruling."""
        self._ids.add(id_)
        match ruling:
            case Void():
                self.voided.update(ruling.batches)
            case Ban():
                held = self._bans.get(ruling.author)
                if held is None or (ruling.version, inverse(id_)) > held[:2]:
                    self._bans[ruling.author] = (ruling.version, inverse(id_), ruling)

    def after(self, id_: bytes, ruling: Ban | Void | Redact) -> "Rulings":
        """These rulings and one more; these are not changed."""
        copy = Rulings(set(self.voided), set(), dict(self._bans))
        copy.add(id_, ruling)
        return copy

    def has(self, id_: bytes) -> bool:
        """Whether a ruling was taken in."""
        return id_ in self._ids

    def ban(self, author: bytes) -> Ban | None:
        """The ban that counts for `author`; None when there is none or it was lifted."""
        held = self._bans.get(author)
        return held[2] if held is not None and held[2].scope != "none" else None

    def version(self, author: bytes) -> int:
        """The version of the newest ban on `author`, be it one that lifts an earlier one; 0 when there is none."""
        held = self._bans.get(author)
        return held[0] if held is not None else 0

    def last(self, author: bytes) -> Ban | None:
        """The newest word on `author`, be it one that lifts a ban."""
        held = self._bans.get(author)
        return held[2] if held is not None else None

    def counts(self, id_: bytes, author: bytes, sealed: int | None) -> bool:
        """Whether a result may count; `sealed` is the number of the checkpoint that seals it, None while none does."""
        return id_ not in self.voided and not self.is_banned(author, sealed)

    def is_banned(self, author: bytes, sealed: int | None) -> bool:
        """Whether a ban takes away what `author` said, given the checkpoint that seals it."""
        ban = self.ban(author)
        return ban is not None and (ban.scope == "all" or sealed is None or sealed > ban.after)


def inverse(id_: bytes) -> bytes:
    """Orders ids the other way round."""
    return bytes(255 - byte for byte in id_)
