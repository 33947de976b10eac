"""A result's evidence: the token ids of its answers, as the model made them. Pure.

With them a verifier scores exactly what was generated, where the text alone could be cut into tokens in another way. A
blob beside the body, named in the result by its SHA-256: its author keeps it for a while and hands it out.

Always holds: evidence that was made here opens to what it was made of, and none has more than MAX_EVIDENCE bytes.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.ledger.packing import packed, unpacked
from p2pcap.ledger.records import MAX_ANSWERS, MAX_TOKENS, Result
from p2pcap.project.record import Record
from p2pcap.project.records import MAX_CHUNK, SLICE

MAX_EVIDENCE = 4 * 1024 * 1024
"""Bytes before compression: 64 rows of 16,000 tokens. The ids of a row that does not fit are left out."""

ROW_BYTES = 128
"""What a row may add to its ids: names of fields, lengths."""

ID_BYTES = 4

KEPT_SECONDS = 86_400
"""How long after its result an author keeps evidence, at least; longer while no checkpoint seals the result."""

KEPT_RESULTS = 16_384
"""Results whose evidence is kept at most, whether sealed or not: about a million captions, some 200 MB."""

Ids = tuple[tuple[int, ...], ...]
"""The token ids of a row's answers, in the order of the prompts; none for an answer of which they are not known."""


class EvidenceRow(Record, frozen=True):
    """`ids` are, for each answer, its token ids of four bytes each, little-endian."""

    item: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNK)]
    ids: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=ID_BYTES * MAX_TOKENS)], ...],
        msgspec.Meta(min_length=1, max_length=MAX_ANSWERS),
    ]


class Evidence(Record, frozen=True):
    """The rows whose ids are known, by their item in the chunk, ascending."""

    version: Literal[1]
    rows: Annotated[tuple[EvidenceRow, ...], msgspec.Meta(min_length=1, max_length=SLICE)]


def make_evidence(ids: Mapping[int, Ids]) -> bytes | None:
    """The evidence for rows whose answers have these token ids, by item; None when there is nothing to say."""
    rows: list[EvidenceRow] = []
    room = MAX_EVIDENCE - ROW_BYTES
    for item in sorted(ids):
        row = _row(item, ids[item])
        size = ROW_BYTES + sum(map(len, row.ids)) if row is not None else 0
        if row is not None and size <= room:
            rows.append(row)
            room -= size
    return packed(encode(Evidence(1, tuple(rows)))) if rows else None


def open_evidence(data: bytes) -> dict[int, Ids]:
    """The token ids in a stranger's evidence, by item. Raises UntrustedError when it is none."""
    raw = unpacked(data, MAX_EVIDENCE, "evidence")
    try:
        rows = decode(raw, Evidence, MAX_EVIDENCE).rows
    except CodecError as error:
        raise UntrustedError(f"The evidence cannot be read: {error}") from error
    items = [row.item for row in rows]
    if items != sorted(set(items)):
        raise UntrustedError("The evidence names its rows twice, or in another order.")
    if any(len(ids) % ID_BYTES for row in rows for ids in row.ids):
        raise UntrustedError("The evidence holds part of a token id.")
    return {row.item: tuple(_unpacked(ids) for ids in row.ids) for row in rows}


def outdated(results: Iterable[tuple[bytes, Result]], sealed: Mapping[bytes, int], now: float) -> set[bytes]:
    """The hashes of evidence that its author may drop: that of results (id, header), which are its own and come in any
    order, that are sealed and KEPT_SECONDS old, and of all but the newest KEPT_RESULTS. Results may share evidence: it
    goes with the last of them."""
    newest_first = sorted(results, key=lambda pair: (pair[1].time, pair[0]), reverse=True)
    old = {
        id_ for id_, result in newest_first[:KEPT_RESULTS] if id_ in sealed and result.time <= now - KEPT_SECONDS
    } | {id_ for id_, _ in newest_first[KEPT_RESULTS:]}
    told = [(id_, result.evidence) for id_, result in newest_first if isinstance(result.evidence, bytes)]
    return {hash_ for id_, hash_ in told if id_ in old} - {hash_ for id_, hash_ in told if id_ not in old}


def _row(item: int, ids: Ids) -> EvidenceRow | None:
    """None when the ids are none, or no ids."""
    if not any(ids) or len(ids) > MAX_ANSWERS or any(len(one) > MAX_TOKENS for one in ids):
        return None
    try:
        return EvidenceRow(item, tuple(struct.pack(f"<{len(one)}I", *one) for one in ids))
    except struct.error:  # an id below 0, or of more than 32 bits
        return None


def _unpacked(ids: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(ids) // ID_BYTES}I", ids)
