"""What a ruling would say and change, told before it is signed: by a running node, or from the file of a stopped one.

Always holds: nothing is changed. A draft travels as JSON between the node and the command that asks for it.
"""

from collections.abc import Iterable, Sequence

import msgspec
import trio

from p2pcap.codec import decode, encode
from p2pcap.errors import ConfigError
from p2pcap.ledger import drafting
from p2pcap.ledger.drafting import Asked, BanAsked, RedactAsked, VoidAsked
from p2pcap.ledger.effect import effect_of
from p2pcap.ledger.rulings import Ban, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.store.readers import store_errors
from p2pcap.store.reads import Cursor
from p2pcap.store.store import Store

SHOWN = 20
"""Captions that a draft shows; it says how many there are."""

WITH_IMAGE = """
SELECT DISTINCT chunk, item FROM (
    SELECT chunk, item FROM item WHERE list_contains(?, hash)
    UNION ALL SELECT chunk, item FROM candidate WHERE list_contains(?, image)) ORDER BY chunk, item
"""

CAPTIONS = """
SELECT coalesce(key, concat(chunk, ':', item)), coalesce(caption, error, ''), coalesce(author_name, '') FROM captions
WHERE chunk = ? AND list_contains(?, item) ORDER BY item
"""


class Statement(msgspec.Struct, frozen=True):
    """A record that nobody has signed yet: its type and its encoding."""

    kind: str
    payload: bytes


class Share(msgspec.Struct, frozen=True):
    """An author's part in what is lost: peer id, name and rows."""

    peer_id: str
    name: str
    rows: int


class Caption(msgspec.Struct, frozen=True):
    """A caption that would go."""

    key: str
    text: str
    author: str


class Draft(msgspec.Struct, frozen=True):
    """`statements` to sign, and what they would change (p2pcap.ledger.effect.Effect); `out` are people, as `who` is,
    whom a ban is about. `guests` are those who joined with the ticket that is revoked. `captions` are some of those
    that would go, of `gone` in all. `checkpoint` is the number of the newest one."""

    statements: tuple[Statement, ...]
    results: int
    rows: tuple[Share, ...]
    opened: int
    closed: int
    redacted: int
    checkpoint: int
    who: str = ""
    guests: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    captions: tuple[Caption, ...] = ()
    gone: int = 0


def decode_asked(data: object) -> Asked:
    """The question in a request. Raises ConfigError when it is none."""
    try:
        asked: Asked = msgspec.convert(data, Asked)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The ruling cannot be made: {error}. See the command's --help.") from error
    return asked


def encode_draft(draft: Draft) -> bytes:
    """The draft as JSON."""
    return msgspec.json.encode(draft)


def decode_draft(data: bytes) -> Draft:
    """The draft in a node's answer. Raises ConfigError when this program does not know its form."""
    try:
        return msgspec.json.decode(data, type=Draft)
    except msgspec.MsgspecError as error:
        raise ConfigError("The node answers in a form this program does not know. Use the same version.") from error


def with_places(cursor: Cursor, asked: Asked) -> Asked:
    """The question with the images it names by hash as places. Raises ConfigError when nobody knows one."""
    if not isinstance(asked, RedactAsked) or not asked.images:
        return asked
    hashes = [bytes.fromhex(text) for text in asked.images]
    found = cursor.execute(WITH_IMAGE, [hashes, hashes]).fetchall()
    if not found and not asked.places:
        raise ConfigError("No image with that hash is known here. Name it by key, or as CHUNK:ITEM.")
    places = tuple(dict.fromkeys((*asked.places, *((int(chunk), int(item)) for chunk, item in found))))
    if len(places) > drafting.MAX_ASKED:
        raise ConfigError(f"More than {drafting.MAX_ASKED} images are meant. Redact them in parts.")
    return msgspec.structs.replace(asked, places=places, images=())


def draft(ledger: Ledger, asked: Asked, signer: bytes) -> Draft:
    """The ruling asked for, as `signer` would sign it, without the captions that would go. Quick where the author has
    few results; it reads the ledger, so it belongs on the thread that owns it. Raises ConfigError."""
    kind, records = _records(ledger, asked)
    statements = [Statement(kind, encode(record)) for record in records]
    envelopes = [drafting.unsigned(signer, kind, statement.payload) for statement in statements]
    effect = effect_of(ledger, [(e.id, signer, record) for e, record in zip(envelopes, records, strict=True)])
    known = drafting.names(ledger)
    return Draft(
        statements=tuple(statements),
        results=effect.results,
        rows=tuple(Share(*share) for share in drafting.counted(effect.rows, known)),
        opened=effect.opened,
        closed=effect.closed,
        redacted=effect.redacted,
        checkpoint=ledger.seals.head,
        who=_who(ledger, records),
        guests=_guests(ledger, asked, records),
        out=tuple(drafting.shown(ledger, author) for author in effect.out),
    )


def _records(ledger: Ledger, asked: Asked) -> tuple[str, Sequence[Ban | Void | Redact]]:
    match asked:
        case BanAsked():
            return "ban", drafting.bans(ledger, asked)
        case VoidAsked():
            return "void", drafting.voids(ledger, asked)
        case RedactAsked():
            return "redact", drafting.redactions(ledger, asked)


def _who(ledger: Ledger, records: Iterable[Ban | Void | Redact]) -> str:
    return next((drafting.shown(ledger, record.author) for record in records if isinstance(record, Ban)), "")


def _guests(ledger: Ledger, asked: Asked, records: Iterable[Ban | Void | Redact]) -> tuple[str, ...]:
    if not isinstance(asked, BanAsked) or not asked.ticket:
        return ()
    keys = [record.author for record in records if isinstance(record, Ban)]
    return tuple(drafting.shown(ledger, guest) for key in keys for guest in drafting.guests(ledger, key))


def with_captions(cursor: Cursor, draft: Draft) -> Draft:
    """The draft; that of a redaction with some of the captions that would go."""
    found: list[Caption] = []
    gone = 0
    for redact in (decode(made.payload, Redact) for made in draft.statements if made.kind == "redact"):
        items = [item for item in range(redact.items.bit_length()) if redact.items >> item & 1]
        rows = cursor.execute(CAPTIONS, [redact.chunk, items]).fetchall()
        gone += len(rows)
        found += [Caption(*row) for row in rows[: SHOWN - len(found)]]
    return msgspec.structs.replace(draft, captions=tuple(found), gone=gone)


async def draft_in(ledger: Ledger, store: Store, asked: Asked, signer: bytes) -> Draft:
    """The draft of a running node, which owns `ledger` and `store`. Raises ConfigError, StoreError."""

    def places() -> Asked:
        with store.readers.lend() as cursor, store_errors():
            return with_places(cursor, asked)

    def captions() -> Draft:
        with store.readers.lend() as cursor, store_errors():
            return with_captions(cursor, made)

    made = draft(ledger, await trio.to_thread.run_sync(places), signer)
    return await trio.to_thread.run_sync(captions)
