"""From the rows of a slice to what its author signs. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import UNSET

from p2pcap.ledger.body import Body, build_body
from p2pcap.ledger.evidence import make_evidence
from p2pcap.ledger.records import Result, Row
from p2pcap.worker.slices import Slice


@dataclass(frozen=True)
class Written:
    """A result, and what it names: its body, and its evidence where the engine tells token ids."""

    header: Result
    body: Body
    evidence: bytes | None


def written(
    m: bytes, tid: bytes, piece: Slice, rows: Sequence[Row], engine_class: bytes, now: float, nonce: int
) -> Written:
    """The result of `rows`, which are rows of `piece` in order and fit one body, in the project with the prefix `m`.
    `nonce` is that of the claim, `now` is unix seconds."""
    body = build_body(rows, piece.offset)
    evidence = make_evidence({row.item: piece.ids[row.item] for row in rows if row.item in piece.ids})
    header = Result(
        m=m,
        tid=tid,
        chunk=piece.chunk,
        offset=piece.offset,
        n=piece.span,
        mask=body.mask,
        root=body.root,
        length=len(body.data),
        raw=body.raw,
        tokens=sum(answer.tokens for row in rows for answer in row.answers),
        engine=engine_class,
        time=int(now),
        nonce=nonce,
        evidence=hashlib.sha256(evidence).digest() if evidence is not None else UNSET,
    )
    return Written(header, body, evidence)
