"""Rulings as a maintainer asks for them, made into the records that say so: who is meant, which results, which version.

A draft is made from a ledger, by the coordinator's node or from its file, and signed by whoever holds the key: so a
node that is online needs no key for it, and the one who signs sees first what it changes.

Always holds: a draft is valid in the ledger it was made from, and says something new there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from p2pcap.envelope import Envelope
from p2pcap.errors import ConfigError
from p2pcap.identity import peer_id_of, public_of
from p2pcap.ledger.effect import redacted_in
from p2pcap.ledger.records import ChunkNumber
from p2pcap.ledger.rulings import MAX_VOIDED, Ban, CheckpointNumber, Reason, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.project.record import Count
from p2pcap.project.records import MAX_CHUNK, SLICE

MAX_ASKED = 4_096
"""Results or images that one question may name."""

LEAST_PREFIX = 8
"""Hex digits by which a result may be named, at least."""

Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,64}\Z")]
WholeHex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Who = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Item = Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNK)]


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    reason: Reason
    time: Count


class BanAsked(_Asked, frozen=True, tag_field="rule", tag="ban"):
    """Ban `who` (a peer id, a key in hex, or a name), or with the scope "none" lift a ban. `after` left out: the newest
    checkpoint. `ticket`: who is a ticket's key, whose guests are meant."""

    who: Who
    scope: Annotated[str, msgspec.Meta(pattern=r"^(none|unsealed|all)\Z")]
    after: CheckpointNumber | None = None
    evidence: Annotated[tuple[WholeHex, ...], msgspec.Meta(max_length=4)] = ()
    ticket: bool = False


class VoidAsked(_Asked, frozen=True, tag_field="rule", tag="void"):
    """Void these results (ids in hex, or their first digits), or all that count by the author `who` made at `since`
    (unix seconds) or later."""

    statements: Annotated[tuple[Hex, ...], msgspec.Meta(max_length=MAX_ASKED)] = ()
    who: Annotated[str, msgspec.Meta(max_length=128)] = ""
    since: Count = 0
    evidence: Annotated[tuple[WholeHex, ...], msgspec.Meta(max_length=4)] = ()


class RedactAsked(_Asked, frozen=True, tag_field="rule", tag="redact"):
    """Redact these images: (chunk, item), or every image with one of these hashes."""

    places: Annotated[tuple[tuple[ChunkNumber, Item], ...], msgspec.Meta(max_length=MAX_ASKED)] = ()
    images: Annotated[tuple[WholeHex, ...], msgspec.Meta(max_length=MAX_ASKED)] = ()


Asked = BanAsked | VoidAsked | RedactAsked


def bans(ledger: Ledger, asked: BanAsked) -> list[Ban]:
    """The ban asked for. Raises ConfigError when nobody is called so, several are, or there is nothing to lift."""
    author = bytes.fromhex(asked.who) if asked.ticket else find_author(ledger, asked.who)
    held = ledger.rulings.ban(author)
    if asked.scope == "none" and held is None:
        raise ConfigError(f"{shown(ledger, author)} is not banned, so there is no ban to lift.")
    after = ledger.seals.head if asked.after is None else asked.after
    if after > ledger.seals.head:
        raise ConfigError(f"There is no checkpoint {after}; the newest is {ledger.seals.head}. Leave --after out.")
    after = after if asked.scope == "unsealed" else 0
    if held is not None and (held.scope, held.after) == (asked.scope, after):
        raise ConfigError(f"{shown(ledger, author)} is banned just so already: {held.reason or 'no reason given'}.")
    version = ledger.rulings.version(author) + 1
    evidence = _ids(asked.evidence)
    return [Ban(ledger.project.m, author, version, after, asked.scope, asked.reason, evidence, asked.time)]


def voids(ledger: Ledger, asked: VoidAsked) -> list[Void]:
    """The voids asked for, MAX_VOIDED results each. Raises ConfigError for a result that is not known, and when none is
    left that counts."""
    ids = [_result(ledger, text) for text in asked.statements]
    if asked.who:
        author = find_author(ledger, asked.who)
        ids += [i for i, (who, result) in ledger.results.items() if who == author and result.time >= asked.since]
    counting = sorted(id_ for id_ in dict.fromkeys(ids) if id_ not in ledger.rulings.voided)
    if not counting:
        raise ConfigError("No result is left to void: there is none, or all of them are void already.")
    evidence = _ids(asked.evidence)
    parts = (tuple(counting[start : start + MAX_VOIDED]) for start in range(0, len(counting), MAX_VOIDED))
    return [Void(ledger.project.m, part, asked.reason, evidence, asked.time) for part in parts]


def redactions(ledger: Ledger, asked: RedactAsked) -> list[Redact]:
    """The redactions asked for, one for each SLICE items of a chunk at most. Raises ConfigError for an image that the
    project lacks, and when all are redacted already."""
    chunks: dict[int, int] = {}
    for chunk, item in asked.places:
        if chunk >= len(ledger.project.counts) or item >= ledger.project.counts[chunk]:
            raise ConfigError(f"The project has no image {chunk}:{item}. Write CHUNK:ITEM as p2pcap query shows them.")
        chunks[chunk] = chunks.get(chunk, 0) | 1 << item
    left = {chunk: items & ~redacted_in(ledger, chunk) for chunk, items in chunks.items()}
    if not any(left.values()):
        raise ConfigError("No image is left to redact: none was named, or all of them are redacted already.")
    return [_redact(ledger, asked, chunk, *span) for chunk, items in sorted(left.items()) for span in _spans(items)]


def _redact(ledger: Ledger, asked: RedactAsked, chunk: int, offset: int, bits: int) -> Redact:
    mask = bits.to_bytes(8, "little")
    return Redact(ledger.project.m, chunk, offset, bits.bit_length(), mask, asked.reason, asked.time)


def _spans(items: int) -> Iterator[tuple[int, int]]:
    """Items of a chunk in runs of SLICE at most: the first item of each, and its items as bits from there on."""
    while items:
        offset = (items & -items).bit_length() - 1
        bits = items >> offset & (1 << SLICE) - 1
        yield offset, bits
        items &= ~(bits << offset)


def find_author(ledger: Ledger, who: str) -> bytes:
    """The key of whoever is meant: by peer id, key in hex, or the name that a volunteer chose. Raises ConfigError when
    nobody has that name, or several have."""
    if (key := key_of(who)) is not None:
        return key
    called = sorted(key for key, name in names(ledger).items() if name.casefold() == who.casefold())
    if not called:
        raise ConfigError(f'Nobody here is called "{who}". Give a peer id; p2pcap status lists the volunteers.')
    if len(called) > 1:
        listed = ", ".join(map(peer_id_of, called[:8])) + (" and others" if len(called) > 8 else "")
        raise ConfigError(f'{len(called)} volunteers call themselves "{who}": {listed}. Give the peer id of one.')
    return called[0]


def key_of(text: str) -> bytes | None:
    """The public key that a peer id or 64 hex digits name; None for any other text."""
    try:
        return bytes.fromhex(text) if len(text) == 64 else public_of(text)
    except ValueError:
        return None


def names(ledger: Ledger) -> dict[bytes, str]:
    """The name that each admitted author chose; a profile's comes before the grant's."""
    found = {key: grant.name for key, grant in ledger.grants.items()}
    return found | {key: profile.name for key, profile in ledger.profiles.items()}


def shown(ledger: Ledger, author: bytes) -> str:
    """An author for people."""
    name = names(ledger).get(author, "")
    return f"{name} ({peer_id_of(author)})" if name else peer_id_of(author)


def guests(ledger: Ledger, ticket: bytes) -> list[bytes]:
    """The authors whose grant a ticket's key signed."""
    return sorted({grant.author for grant, _ in ledger.members.kept.by_ticket(ticket)})


def unsigned(signer: bytes, kind: str, payload: bytes) -> Envelope:
    """A statement that `signer` has not signed yet: its id is known already."""
    return Envelope(kind, payload, signer, bytes(64))


def _result(ledger: Ledger, text: str) -> bytes:
    if len(text) < LEAST_PREFIX:
        raise ConfigError(f"{text} is too short for the id of a result: give {LEAST_PREFIX} digits at least.")
    if len(text) == 64 and bytes.fromhex(text) in ledger.results:
        return bytes.fromhex(text)
    found = [id_ for id_ in ledger.results if id_.hex().startswith(text)]
    if len(found) != 1:
        many = f"{len(found)} results have ids that begin with {text}. Give more digits."
        raise ConfigError(
            many if found else f"No result with the id {text} is known here. See `statement` in captions."
        )
    return found[0]


def _ids(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, texts))


def counted(rows: Mapping[bytes, int], known: Mapping[bytes, str]) -> Sequence[tuple[str, str, int]]:
    """(peer id, name, rows) by author, most first."""
    order = sorted(rows, key=lambda author: (-rows[author], author))
    return [(peer_id_of(author), known.get(author, ""), rows[author]) for author in order]
