"""The proof of one caption, as a small file of its own.

The file is one JSON object: what is shown of the row, for people, and under `proof`, in base64, what proves it: the
chain from the project's hash to its plan, the author's grant, the signed result with the hashes of its other rows, and
the chunk's item list, which binds the image's key to the row. Nearly all of its bytes are plan and item list. `sha256`
is that of the object with an empty one: it finds damage where nothing is signed.

Always holds: a file that `verify_single` passes is byte for byte the one that a node with this row writes.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.export.anchoring import chunk_table, open_ledger
from p2pcap.export.checking import KINDS, SIGNED, Cells, RowFault, check, shown
from p2pcap.export.escape import safe_json
from p2pcap.export.gathering import Gathering
from p2pcap.export.present import Present
from p2pcap.export.section import Batch, Chain, Seals, Statements
from p2pcap.ledger.body import open_body
from p2pcap.ledger.leaves import mark
from p2pcap.ledger.packing import packed, unpacked
from p2pcap.ledger.records import MAX_TOKENS, ChunkNumber, Result, Row, Tid
from p2pcap.ledger.state import Ledger
from p2pcap.project.items import NO_IMAGE, ItemList
from p2pcap.project.opened import Project, open_list
from p2pcap.project.record import Record

BEGINNING = b'{"p2pcap_proof":1,'
"""How such a file begins."""

MAX_FILE = 96 * 1024 * 1024


class OneRow(Record, frozen=True):
    """What proves a row. `seals` are there only where the row cannot be proved without: where a key was replaced, or a
    ban spares what is sealed. `items` is the chunk's item list, empty where the node has none, and `page` the page of
    the chunk table that names it, where the plan itself does not."""

    tid: Tid
    chunk: ChunkNumber
    chain: Chain
    statements: Statements
    seals: Seals
    page: bytes
    items: bytes
    batch: Batch


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt: str
    text: str
    tokens: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
    finish: str


class _Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    value: str


LISTS = {"answers": list[_Answer], "fields": list[_Field]}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    p2pcap_proof: int
    row: dict[str, Any]
    proof: str
    sha256: str = ""


@dataclass(frozen=True)
class Place:
    """Where a row is: its task and statement in hex, its chunk and item."""

    task: str
    statement: str
    chunk: int
    item: int


@dataclass(frozen=True)
class Single:
    """A proved row: what is shown of it, and its project."""

    project: Project
    row: dict[str, Any]


def make_single(node: Gathering, place: Place) -> bytes:
    """The file that proves the row at `place`. Raises StoreError when the node does not hold what that takes."""
    header, row = _row_at(node, place)
    answers = [(answer.text, answer.tokens, answer.finish) for answer in row.answers]
    image = "" if row.image == NO_IMAGE else row.image.hex()
    present = Present(1 << row.item, bytearray(mark(answers, image, row.error, row.reason)))
    signed = node.signed(place.task, [place.chunk])
    (batch,) = node.batches({place.statement: present}, signed, place.task)
    items = dict(node.lists([place.chunk])).get(place.chunk, b"")
    page = node.page_of(place.chunk) or b""
    author = signed[place.statement].author
    signed_cells = _signed(place, row)
    for seals in ((), node.seals()):
        statements = tuple(node.statements({author}, len(seals)))
        one = OneRow(header.tid, header.chunk, node.chain, statements, seals, page, items, batch)
        try:
            ledger, found = _opened(one, None)
            cells = shown(ledger, one.tid, one.chunk, [batch], found, signed_cells)
            check(ledger, one.tid, one.chunk, [batch], found, cells)
        except RowFault:
            continue  # it counts only as far as it is sealed
        return _file(
            {name: values[0] for name, values in cells.items()}, base64.b64encode(packed(encode(one))).decode()
        )
    raise UntrustedError("The node cannot prove this row by what it holds. Run p2pcap fsck.")


def verify_single(data: bytes, expected: bytes | None = None) -> Single:
    """The row that a file proves; `expected` is the project's hash, where it is known. Raises UntrustedError."""
    told, proof, one = _read(data)
    try:
        return _verified(data, told, proof, one, expected)
    except UntrustedError as error:
        raise UntrustedError(f"The proof does not hold: {error} Do not use it.") from error


def _verified(data: bytes, told: dict[str, Any], proof: str, one: OneRow, expected: bytes | None) -> Single:
    ledger, found = _opened(one, expected)
    cells = {name: [value] for name, value in told.items()}
    check(ledger, one.tid, one.chunk, [one.batch], found, cells)
    whole = shown(ledger, one.tid, one.chunk, [one.batch], found, cells)
    if _file({name: values[0] for name, values in whole.items()}, proof) != data:
        raise UntrustedError("It is not written as a node writes it: it was changed.")
    return Single(ledger.project, told)


def read_file(path: Path) -> bytes:
    """The bytes of a proof. Raises ConfigError, and UntrustedError for what is too large to be one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    if len(data) > MAX_FILE:
        raise UntrustedError(f"{path} is too large to be a proof. Do not use it.")
    return data


def _row_at(node: Gathering, place: Place) -> tuple[Result, Row]:
    header, body = node.result(place.statement)
    return header, next(row for row in open_body(body, header) if row.item == place.item)


def _signed(place: Place, row: Row) -> Cells:
    prompts = [{"text": answer.text, "tokens": answer.tokens, "finish": answer.finish} for answer in row.answers]
    image = None if row.image == NO_IMAGE else row.image.hex()
    values = (row.item, place.statement, image, prompts or None, row.error or None, row.reason or None)
    return {name: [value] for name, value in zip(SIGNED, values, strict=True)}


def _opened(one: OneRow, expected: bytes | None) -> tuple[Ledger, ItemList | None]:
    ledger = open_ledger(one.chain, one.statements, one.seals, expected)
    project = ledger.project
    if one.chunk >= len(project.counts) or one.tid not in project.tasks:
        raise UntrustedError("It is of a task or chunk that the project does not have.")
    table = chunk_table(project, [one.page])
    return ledger, open_list(one.items, table[one.chunk]) if one.items else None


def _file(row: dict[str, Any], proof: str) -> bytes:
    digest = hashlib.sha256(safe_json(msgspec.json.encode(_File(1, row, proof)))).hexdigest()
    return safe_json(msgspec.json.encode(_File(1, row, proof, digest))) + b"\n"


def _read(data: bytes) -> tuple[dict[str, Any], str, OneRow]:
    try:
        file = msgspec.json.decode(data, type=_File)
        raw = unpacked(base64.b64decode(file.proof, validate=True), MAX_BLOB, "proof")
        for name, kind in KINDS.items():
            msgspec.convert(file.row[name], LISTS.get(name, kind) | None)
        return file.row, file.proof, decode(raw, OneRow, MAX_BLOB)
    except KeyError as error:
        raise UntrustedError(f"The proof shows no {error.args[0]}. Do not use it.") from error
    except (msgspec.MsgspecError, ValueError, CodecError) as error:
        raise UntrustedError("The proof is damaged, or none. Do not use it.") from error
