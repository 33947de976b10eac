"""An exported row, and the proof in it.

A row shows an image's captions and carries, under `provenance`, the signed statement they are from, the row exactly as
its author encoded it, and the Merkle path that joins the two. So a single line can be checked by anybody, without the
other lines, the project or the network.

The author's signature covers image, project, task, chunk, item, texts, token counts, finish reasons, error, reason,
author, engine and time. Not covered, and so the word of whoever exported: `key`, `url`, `file`, `place` and `fields`
(the project's item lists, which its manifest signs, bind them to chunk and item), `author_name`, `model` and the names
of the prompts (the project's task binds them to `task`).

Always holds: `verify_row` accepts exactly the rows that `exported_rows` can make of a statement whose signature holds.
"""

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.identity import peer_id_of
from p2pcap.ledger import merkle
from p2pcap.ledger.body import open_body
from p2pcap.ledger.records import MAX_RAW, Result, Row
from p2pcap.project.items import NO_IMAGE
from p2pcap.store.canonical import Run, Shown
from p2pcap.store.schema import MAX_TIME


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed statement, the row's exact encoding, and the hashes from it to the statement's root, all in base64.

    The row's place among its result's rows follows from the statement's mask.
    """

    statement: str
    row: str
    path: tuple[str, ...]


class ExportedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One prompt's answer."""

    text: str
    tokens: int
    finish: str


class ExportedRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of an export. `caption` is the first prompt's text; it is None, and `answers` empty, in an error row.

    `url`, `file` and `place` in it, and `fields`, the metadata, are left out where the item list has none. `image` is
    the image's SHA-256, None when its bytes never came; `project` and `task` are 8 bytes, `engine` is the engine class,
    all in hex.
    """

    key: str | None
    url: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    place: int | UnsetType = UNSET
    image: str | None
    caption: str | None
    fields: dict[str, str] | UnsetType = UNSET
    answers: dict[str, ExportedAnswer]
    error: str | None
    reason: str | None
    author: str
    author_name: str
    model: str
    engine: str
    time: str
    project: str
    task: str
    chunk: int
    item: int
    provenance: Proof


class Words(msgspec.Struct, frozen=True):
    """The parts of a row that no signature covers."""

    key: str | None
    url: str | UnsetType
    file: str | UnsetType
    place: int | UnsetType
    fields: dict[str, str] | UnsetType
    author_name: str
    model: str
    prompts: tuple[str, ...]


def exported_rows(run: Run) -> Iterator[ExportedRow]:
    """The rows of `run`. Raises UntrustedError when its body is not what its statement signs."""
    envelope = open_envelope(run.envelope)
    result = decode(envelope.payload, Result)
    rows = open_body(run.body, result)
    encoded = [encode(row) for row in rows]
    leaves = [merkle.leaf(data) for data in encoded]
    places = {row.item: place for place, row in enumerate(rows)}
    for shown in run.items:
        place = places[shown.item]
        proof = Proof(_text(run.envelope), _text(encoded[place]), tuple(map(_text, merkle.proof(leaves, place))))
        yield _shown(envelope, result, rows[place], _words(run, shown), proof)


def _words(run: Run, shown: Shown) -> Words:
    at = UNSET if shown.place is None else shown.place
    said = (shown.key, shown.url or UNSET, shown.file or UNSET, at, shown.fields or UNSET)
    return Words(*said, run.author_name, run.model, run.prompts)


def _shown(envelope: Envelope, result: Result, row: Row, words: Words, proof: Proof) -> ExportedRow:
    answers = [ExportedAnswer(answer.text, answer.tokens, answer.finish) for answer in row.answers]
    return ExportedRow(
        key=words.key,
        url=words.url,
        file=words.file,
        place=words.place,
        image=row.image.hex() if row.image != NO_IMAGE else None,
        caption=answers[0].text if answers else None,
        fields=words.fields,
        answers=dict(zip(words.prompts, answers, strict=True)) if answers else {},
        error=row.error or None,
        reason=row.reason or None,
        author=peer_id_of(envelope.author),
        author_name=words.author_name,
        model=words.model,
        engine=result.engine.hex(),
        time=datetime.fromtimestamp(min(result.time, MAX_TIME), UTC).isoformat(),
        project=result.m.hex(),
        task=result.tid.hex(),
        chunk=result.chunk,
        item=row.item,
        provenance=proof,
    )


def verify_row(given: Any) -> ExportedRow:
    """The exported row in `given`, as JSON made it, checked against its proof. Raises UntrustedError with the fault."""
    try:
        row = msgspec.convert(given, ExportedRow)
        expected = _proven(row)
    except (msgspec.ValidationError, CodecError) as error:
        raise UntrustedError(f"The row is damaged: {error}") from error
    if wrong := [name for name in row.__struct_fields__ if getattr(row, name) != getattr(expected, name)]:
        raise UntrustedError(f"The row shows another {' and '.join(wrong)} than its author signed.")
    return row


def _proven(row: ExportedRow) -> ExportedRow:
    """The row that its proof proves, with the shown words. Raises UntrustedError when it proves nothing."""
    envelope = open_envelope(_bytes(row.provenance.statement))
    if envelope.kind != "result" or not envelope.holds():
        raise UntrustedError("The row's statement is not signed by its author.")
    result = decode(envelope.payload, Result)
    data = _bytes(row.provenance.row)
    signed = decode(data, Row, MAX_RAW)
    place, size = _place(result, signed.item)
    path = [_bytes(text) for text in row.provenance.path]
    if place is None or merkle.proven_root(merkle.leaf(data), place, size, path) != result.root:
        raise UntrustedError("The row is not among those that its author signed.")
    prompts = tuple(row.answers)
    if signed.answers and len(prompts) != len(signed.answers):
        raise UntrustedError("The row shows another number of answers than its author signed.")
    words = Words(row.key, row.url, row.file, row.place, row.fields, row.author_name, row.model, prompts)
    return _shown(envelope, result, signed, words, row.provenance)


def _place(result: Result, item: int) -> tuple[int | None, int]:
    """The item's index among the result's rows, which are in order, and their number."""
    items = result.items
    below = items & ((1 << item) - 1)
    return (below.bit_count() if items >> item & 1 else None), items.bit_count()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    """Raises UntrustedError unless `text` is the one base64 form of some bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UntrustedError("The row's provenance is not base64.") from error
    if _text(data) != text:
        raise UntrustedError("The row's provenance is not base64 in its usual form.")
    return data
